//! Who a client certificate is of. That it is genuine and in force, TLS has verified.
//!
//! A station's certificate says so itself, by a URI among its alternative names:
//! `urn:loushan:station:{region}:{station}`. Any other is its subject's common name's, which the users
//! file must have: role and region are from there.

use loushan_schemas::ids::{Region, StationId};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::role::StationScope;

/// How a station's URI begins.
pub const STATION_URN: &str = "urn:loushan:station:";

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Presented {
    pub(super) whose: Whose,
    /// When it ends, in Unix seconds.
    pub(super) not_after: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    /// A station's, by its own word.
    Station(StationScope),
    /// That of a user of this name, if there is one.
    Named(String),
    /// It names nobody.
    Nobody,
}

/// A certificate that cannot be understood, or says two things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CertificateError {
    #[error("the client's certificate is not X.509")]
    Malformed,
    #[error("the client's certificate has more than one name of ours")]
    Ambiguous,
    #[error(
        "the client's certificate has a urn:loushan:station: that is not {{region}}:{{station}}"
    )]
    Urn,
}

/// Reads a certificate.
pub(super) fn read(der: &[u8]) -> Result<Presented, CertificateError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
    let not_after = certificate.validity().not_after.timestamp();
    let names = certificate.subject_alternative_name().map_err(|_| CertificateError::Malformed)?;
    let mut stations =
        names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(STATION_URN),
            _ => None,
        });
    let whose = match (stations.next(), stations.next()) {
        (Some(_), Some(_)) => return Err(CertificateError::Ambiguous),
        (Some(name), None) => Whose::Station(station(name).ok_or(CertificateError::Urn)?),
        (None, _) => {
            let mut names = certificate.subject().iter_common_name();
            match (names.next(), names.next()) {
                (Some(_), Some(_)) => return Err(CertificateError::Ambiguous),
                (Some(name), None) => {
                    let name = name.as_str().map_err(|_| CertificateError::Malformed)?;
                    Whose::Named(name.to_owned())
                }
                (None, _) => Whose::Nobody,
            }
        }
    };
    Ok(Presented { whose, not_after })
}

fn station(name: &str) -> Option<StationScope> {
    let (region, station) = name.split_once(':')?;
    Some(StationScope {
        region: Region::new(region).ok()?,
        station: StationId::new(station).ok()?,
        project: None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    /// A certificate with these common names and URIs.
    pub(in crate::auth) fn certificate(names: &[&str], uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn whose(names: &[&str], uris: &[&str]) -> Result<Whose, CertificateError> {
        read(&certificate(names, uris)).map(|presented| presented.whose)
    }

    #[test]
    fn a_stations_urn_goes_before_its_common_name() {
        let uri = "urn:loushan:station:xinpu:bs0001";
        let Whose::Station(scope) = whose(&["ada"], &["https://x", uri]).unwrap() else { panic!() };
        assert_eq!((scope.region.as_str(), scope.station.as_str()), ("xinpu", "bs0001"));
        assert_eq!(whose(&["ada"], &[]), Ok(Whose::Named("ada".to_owned())));
        assert_eq!(whose(&[], &["urn:other"]), Ok(Whose::Nobody));
        assert_eq!(read(&certificate(&["ada"], &[])).unwrap().not_after, 1_893_456_000);
    }

    #[test]
    fn what_is_malformed_or_says_two_things_is_refused() {
        let uri = "urn:loushan:station:xinpu:bs0001";
        assert_eq!(
            whose(&[], &[uri, "urn:loushan:station:xinpu:bs2"]),
            Err(CertificateError::Ambiguous)
        );
        for bad in ["xinpu", "xinpu:bs0001:x", ":bs0001", "Xinpu:bs0001", "xinpu:+", ""] {
            let uri = format!("urn:loushan:station:{bad}");
            assert_eq!(whose(&["ada"], &[&uri]), Err(CertificateError::Urn), "{bad}");
        }
        assert_eq!(read(b"\x30\x03abc"), Err(CertificateError::Malformed));
    }
}
