//! What can be wrong with listeners taken together.

use loushan_broker::listen::tls::ClientCertificates;

use super::fault::{Fault, Origin};
use super::raw::{Raw, variable};
use super::resolved::Config;

/// The faults of `config`.
pub(super) fn faults(config: &Config, raw: &Raw) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mqtt = config.mqtt_listen.all().map(|(key, address, _)| (key, address));
    let listeners: Vec<_> = mqtt.chain([("http.listen", config.http_listen)]).collect();
    let mut fault = |key: &str, origin: Origin, problem: String, remedy: &str| {
        faults.push(Fault { key: key.to_owned(), origin, problem, remedy: remedy.to_owned() });
    };
    for (at, (key, address)) in listeners.iter().enumerate() {
        let earlier = listeners.iter().take(at).find(|(_, other)| other == address);
        if let Some((other, _)) = earlier.filter(|_| address.port() != 0) {
            let problem = format!("{address} is the address of {other} too");
            fault(key, raw.origin(key), problem, "give each a port of its own");
        }
    }
    for (key, address, tls) in config.mqtt_listen.all() {
        if tls && config.mqtt_tls.is_none() {
            let problem = format!("{address} is to speak TLS, and there is no [mqtt.tls]");
            let remedy = "name certificate and key there; `loushan certs dev` makes some to try";
            fault(key, raw.origin(key), problem, remedy);
        }
    }
    if config.mqtt_listen.all().next().is_none() {
        let remedy = format!(
            "set one of mqtt.listen ({}), tls_listen, ws_listen, wss_listen",
            variable("mqtt.listen")
        );
        fault("mqtt.listen", raw.origin("mqtt.listen"), "MQTT listens nowhere".to_owned(), &remedy);
    }
    if let Some(files) = &config.mqtt_tls {
        let asks = files.client_certificates != ClientCertificates::None;
        if asks && files.client_ca.is_none() {
            let key = "mqtt.tls.client_certificates";
            let problem = "clients are asked for certificates, and client_ca is not set".to_owned();
            fault(key, raw.origin(key), problem, "name in client_ca who signs them");
        } else if !asks && files.client_ca.is_some() {
            let key = "mqtt.tls.client_ca";
            let problem = "it is set, and client_certificates is \"none\": nobody is asked for one";
            let remedy = "set client_certificates to \"optional\" or \"required\"";
            fault(key, raw.origin(key), problem.to_owned(), remedy);
        }
    }
    faults
}
