//! Addresses that other machines can reach, and what guards them.
//!
//! MQTT beyond loopback needs both credentials and TLS. HTTP needs TLS; it asks for credentials there
//! anyhow, as there is the admin's token at least.

use std::net::SocketAddr;

use loushan_broker::listen::tls::ClientCertificates;

use super::fault::Fault;
use super::raw::{Raw, variable};
use super::resolved::Config;
use super::table::Setting;

/// An address that is not guarded as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// `mqtt` or `http`.
    pub section: &'static str,
    /// What sets it.
    pub key: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// There is no TLS.
    no_tls: bool,
    /// What is wrong with its credentials.
    open: Option<&'static str>,
}

impl Exposed {
    /// What is wrong, for people.
    #[must_use]
    pub fn problem(&self) -> String {
        let tls = self.no_tls.then_some("there is no TLS");
        let missing: Vec<&str> = tls.into_iter().chain(self.open).collect();
        let (address, missing) = (self.address, missing.join(" and "));
        format!("{address} can be reached from other machines, and {missing}")
    }

    fn remedy(&self) -> String {
        let mut remedies = vec!["listen on 127.0.0.1 or [::1]".to_owned()];
        if self.no_tls {
            remedies.push(match self.section {
                "mqtt" => "use mqtt.tls_listen or mqtt.wss_listen with [mqtt.tls]".to_owned(),
                section => format!("set [{section}.tls]"),
            });
        }
        if self.open.is_some() {
            let remedy = "set auth.users_file (`loushan user add` makes one), [auth.jwt] or \
                          mqtt.tls.client_certificates, and leave auth.anonymous off";
            remedies.push(remedy.to_owned());
        }
        let (section, allow) = (self.section, allow(self.section));
        let last = format!(
            "or take the risk with allow_insecure = true in [{section}] ({})",
            variable(&allow)
        );
        format!("{}, {last}", remedies.join(", or "))
    }
}

fn allow(section: &str) -> String {
    format!("{section}.allow_insecure")
}

/// All that are not guarded.
pub(super) fn exposed(config: &Config) -> Vec<Exposed> {
    let auth = &config.auth;
    let asked = config.mqtt_tls.as_ref().map(|files| files.client_certificates);
    let asks = asked.is_some_and(|asked| asked != ClientCertificates::None);
    let open = if auth.users_file.is_none() && auth.jwt.is_none() && !asks {
        Some("there are no credentials to ask for")
    } else if auth.anonymous {
        Some("clients without credentials are let in (auth.anonymous)")
    } else {
        None
    };
    // Who must show a certificate has shown credentials.
    let required = asked == Some(ClientCertificates::Required);
    let mqtt = config.mqtt_listen.all().map(|(key, address, tls)| Exposed {
        section: "mqtt",
        key,
        address,
        no_tls: !tls,
        open: open.filter(|_| !(tls && required)),
    });
    let http = Exposed {
        section: "http",
        key: "http.listen",
        address: config.http_listen,
        no_tls: config.http_tls.is_none(),
        open: None,
    };
    let beyond = |it: &Exposed| !it.address.ip().is_loopback();
    mqtt.chain([http]).filter(|it| beyond(it) && (it.no_tls || it.open.is_some())).collect()
}

/// Those for which nobody has taken the risk.
pub(super) fn faults(config: &Config, raw: &Raw) -> Vec<Fault> {
    let taken = |it: &&Exposed| raw.get(&allow(it.section)) == Some(Setting::Bool(true));
    let refused = config.exposed.iter().filter(|it| !taken(it));
    let fault = |it: &Exposed| Fault {
        key: it.key.to_owned(),
        origin: raw.origin(it.key),
        problem: it.problem(),
        remedy: it.remedy(),
    };
    refused.map(fault).collect()
}
