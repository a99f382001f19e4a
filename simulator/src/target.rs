//! Where the fleet publishes to: `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::access::Secret;

/// MQTT's registered ports.
const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
}

impl std::fmt::Display for Target {
    /// Without the credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mqtt{}://{}:{}", if self.tls { "s" } else { "" }, self.host, self.port)
    }
}

/// A target that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL at all.
    #[error("the target is not a URL ({0}); give one like mqtt://127.0.0.1:1883")]
    Url(url::ParseError),
    /// A scheme that is not spoken.
    #[error(
        "the target's scheme {0:?} is not spoken; give mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS"
    )]
    Scheme(String),
    /// No host in it.
    #[error("the target names no host; give mqtt://HOST:PORT")]
    Host,
    /// A user or password whose percent signs make no text.
    #[error("the target's user or password is no text in UTF-8 once its %XX are read")]
    Credentials,
    /// Something behind the port.
    #[error("the target has {0:?} behind its port; topics are the pilot's, give mqtt://HOST:PORT")]
    Path(String),
}

impl Target {
    pub(crate) fn parse(text: &str) -> Result<Self, TargetError> {
        let url = Url::parse(text).map_err(TargetError::Url)?;
        let (tls, port) = match url.scheme() {
            "mqtt" => (false, PORT),
            "mqtts" => (true, TLS_PORT),
            other => return Err(TargetError::Scheme(other.chars().take(40).collect())),
        };
        let host = match url.host_str() {
            None | Some("") => return Err(TargetError::Host),
            // Host and port are joined by a colon, so an IPv6 address keeps its brackets.
            Some(host) => host.to_owned(),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(TargetError::Path(url.path().chars().take(40).collect()));
        }
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            text.map(String::from).map_err(|_| TargetError::Credentials)
        };
        let user = Some(url.username()).filter(|user| !user.is_empty()).map(decoded).transpose()?;
        let password = url.password().map(decoded).transpose()?.map(Secret::new);
        Ok(Self { host, port: url.port().unwrap_or(port), tls, user, password })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn targets_have_a_host_and_perhaps_a_port_and_credentials() {
        let target = Target::parse("mqtt://127.0.0.1:18830").unwrap();
        assert_eq!((target.host.as_str(), target.port), ("127.0.0.1", 18830));
        let target = Target::parse("mqtt://ops:secret%40x@broker.example/").unwrap();
        assert_eq!((target.port, target.tls), (1883, false));
        assert_eq!(target.user.as_deref(), Some("ops"));
        assert_eq!(target.password.as_ref().unwrap().word(), "secret@x");
        let tls = Target::parse("mqtts://broker.example").unwrap();
        assert_eq!(
            (tls.port, tls.tls, tls.to_string().as_str()),
            (8883, true, "mqtts://broker.example:8883")
        );
        assert!(!format!("{target:?}").contains("secret"));
        assert_eq!(target.to_string(), "mqtt://broker.example:1883");
        assert_eq!(Target::parse("mqtt://[::1]:1").unwrap().host, "[::1]");
    }

    #[test]
    fn other_targets_are_refused_with_what_is_wanted() {
        for text in ["127.0.0.1:1883", "http://x", "mqtt://", "mqtt://h/topic", "", "mqtt:x"] {
            let error = Target::parse(text).unwrap_err().to_string();
            assert!(error.contains("mqtt://"), "{text}: {error}");
        }
    }
}
