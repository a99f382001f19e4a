//! Which web pages may connect. A page on the operator's machine can reach a loopback port, by a name
//! of its own that it points at 127.0.0.1 (DNS rebinding) or across origins: a browser asks nobody
//! before it opens a WebSocket. So while the listener is on loopback, `Host` must name loopback; and
//! `Origin`, which browsers send and other clients do not, must be one that is known.

use std::net::IpAddr;

use tokio_tungstenite::tungstenite::http::uri::Authority;
use tokio_tungstenite::tungstenite::http::{HeaderMap, Uri, header};

/// The rule of one listener.
#[derive(Debug)]
pub(super) struct Origins {
    loopback: bool,
    allowed: Vec<String>,
}

impl Origins {
    pub(super) fn new(loopback: bool, allowed: &[String]) -> Self {
        let allowed = allowed.iter().map(|o| o.trim_end_matches('/').to_ascii_lowercase());
        Self { loopback, allowed: allowed.collect() }
    }

    /// Whether a request with these headers may go on.
    ///
    /// # Errors
    /// What is wrong, for the client.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let text = |name| headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()));
        if self.loopback {
            let host = text(header::HOST).ok_or("the request has no Host header")?;
            if !host.parse::<Authority>().is_ok_and(|host| is_loopback(host.host())) {
                return Err("Host does not name this machine");
            }
        }
        let Some(origin) = text(header::ORIGIN).map(|origin| origin.to_ascii_lowercase()) else {
            return Ok(());
        };
        let own = |uri: &Uri| self.loopback && uri.host().is_some_and(is_loopback);
        if self.allowed.iter().any(|it| it == "*" || *it == origin)
            || origin.parse::<Uri>().as_ref().is_ok_and(own)
        {
            return Ok(());
        }
        Err("Origin is none of mqtt.ws_origins")
    }
}

fn is_loopback(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(origins: &Origins, host: Option<&str>, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        origins.check(&headers).is_ok()
    }

    #[test]
    fn on_loopback_only_loopbacks_names_and_pages_pass() {
        let origins = Origins::new(true, &[]);
        for host in ["127.0.0.1:8083", "localhost", "LOCALHOST:1", "[::1]:8083"] {
            assert!(allows(&origins, Some(host), None), "{host}");
            assert!(allows(&origins, Some(host), Some("http://localhost:8080")), "{host}");
        }
        for host in [None, Some("evil.example"), Some("127.0.0.1.evil.example"), Some("a b")] {
            assert!(!allows(&origins, host, None), "{host:?}");
        }
        for origin in ["http://evil.example", "null", "http://127.0.0.1.evil.example", ""] {
            assert!(!allows(&origins, Some("localhost"), Some(origin)), "{origin}");
        }
    }

    #[test]
    fn elsewhere_only_the_pages_that_are_named_pass() {
        let named = Origins::new(false, &["https://console.example/".to_owned()]);
        assert!(allows(&named, Some("anything"), None));
        assert!(allows(&named, Some("anything"), Some("https://Console.example")));
        for origin in ["https://console.example:444", "http://console.example", "http://localhost"]
        {
            assert!(!allows(&named, Some("anything"), Some(origin)), "{origin}");
        }
        assert!(allows(&Origins::new(false, &["*".to_owned()]), None, Some("null")));
    }
}
