//! Where the fleet publishes to: `mqtt://[user[:password]@]host[:port]`.

use url::Url;

/// MQTT's registered port.
const PORT: u16 = 1883;

/// A broker.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) credentials: Option<(String, String)>,
}

impl std::fmt::Debug for Target {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({}:{})", self.host, self.port)
    }
}

impl std::fmt::Display for Target {
    /// Without the credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mqtt://{}:{}", self.host, self.port)
    }
}

/// A target that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL at all.
    #[error("the target is not a URL ({0}); give one like mqtt://127.0.0.1:1883")]
    Url(url::ParseError),
    /// A scheme that is not spoken.
    #[error("the target's scheme {0:?} is not spoken; give mqtt://HOST:PORT")]
    Scheme(String),
    /// No host in it.
    #[error("the target names no host; give mqtt://HOST:PORT")]
    Host,
    /// Something behind the port.
    #[error("the target has {0:?} behind its port; topics are the pilot's, give mqtt://HOST:PORT")]
    Path(String),
}

impl Target {
    pub(crate) fn parse(text: &str) -> Result<Self, TargetError> {
        let url = Url::parse(text).map_err(TargetError::Url)?;
        if url.scheme() != "mqtt" {
            return Err(TargetError::Scheme(url.scheme().chars().take(40).collect()));
        }
        let host = match url.host_str() {
            None | Some("") => return Err(TargetError::Host),
            // rumqttc joins host and port by a colon, so an IPv6 address keeps its brackets.
            Some(host) => host.to_owned(),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(TargetError::Path(url.path().chars().take(40).collect()));
        }
        let credentials = (!url.username().is_empty())
            .then(|| (url.username().to_owned(), url.password().unwrap_or_default().to_owned()));
        Ok(Self { host, port: url.port().unwrap_or(PORT), credentials })
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
        let target = Target::parse("mqtt://ops:secret@broker.example/").unwrap();
        assert_eq!(target.port, 1883);
        assert_eq!(target.credentials, Some(("ops".to_owned(), "secret".to_owned())));
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
