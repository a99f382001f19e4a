//! `certs dev`: an authority, a server's and a station's certificate, so that TLS can be tried in a
//! minute. Not for a city: whoever has `ca.key` is every station.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use loushan_schemas::ids::{Region, StationId};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use super::Failure;

/// Names of this machine, which a server's certificate has in any case.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How long the certificates are good for. Clients refuse those of more than 825 days, some of more
/// than 398; by then nobody should still be trying.
const VALID: Duration = Duration::from_secs(365 * 24 * 3600);

/// How far a client's clock may be behind ours.
const BEHIND: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make an authority, a server's and a station's certificate for development.
    Dev(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder to make them in.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// A name or address of the server, beside localhost, 127.0.0.1 and ::1.
    #[arg(long, value_name = "HOST")]
    name: Vec<String>,
    /// The station that gets a certificate.
    #[arg(long, default_value = "bs0001")]
    station: StationId,
    /// The station's region.
    #[arg(long, default_value = "zunyi")]
    region: Region,
}

pub(super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    let Command::Dev(args) = command;
    let files = make(args).map_err(Failure::usage)?;
    let station = args.station.to_string();
    // All of it or nothing: half of a set would not fit the other half of an earlier one.
    for (name, _, _) in &files {
        let path = args.dir.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(Failure::usage(anyhow!(
                "{} is there already, and may be in use; name another --dir, or remove it",
                path.display()
            )));
        }
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&args.dir)
        .with_context(|| format!("the folder {} cannot be made", args.dir.display()))?;
    for (name, pem, mode) in &files {
        let path = args.dir.join(name);
        write(&path, pem, *mode).with_context(|| path.display().to_string())?;
    }
    let dir = args.dir.canonicalize().unwrap_or_else(|_| args.dir.clone());
    let dir = dir.display();
    let (region, topic) = (&args.region, format!("nb1/{}/{station}/state", args.region));
    print!(
        "Made in {dir}: ca.crt, server.crt, {station}.crt and their keys, for a year.\n\
         \n\
         In the configuration:\n\
         \n\
         [mqtt]\n\
         tls_listen = \"127.0.0.1:8883\"\n\
         \n\
         [mqtt.tls]\n\
         certificate = \"{dir}/server.crt\"\n\
         key = \"{dir}/server.key\"\n\
         client_ca = \"{dir}/ca.crt\"\n\
         client_certificates = \"optional\"\n\
         \n\
         Then, as station {station} of {region} that says it is online:\n\
         \n\
         printf '\\020\\001\\040\\001' | \\\n  \
         mosquitto_pub -s -r -h localhost -p 8883 --cafile {dir}/ca.crt --cert {dir}/{station}.crt \\\n  \
         --key {dir}/{station}.key -V 5 -i {station} -q 1 -t {topic}\n"
    );
    Ok(ExitCode::SUCCESS)
}

/// The files by name, with their modes.
fn make(args: &Args) -> anyhow::Result<Vec<(String, String, u32)>> {
    let mut params = CertificateParams::default();
    expire(&mut params)?;
    params.distinguished_name.push(DnType::CommonName, "Loushan development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut names: Vec<String> = LOCAL.iter().map(|name| (*name).to_owned()).collect();
    names.extend(args.name.iter().filter(|name| !LOCAL.contains(&name.as_str())).cloned());
    let params = CertificateParams::new(names).context("--name")?;
    let server = end_entity(&ca, params, "Loushan", ExtendedKeyUsagePurpose::ServerAuth)?;

    let station = args.station.to_string();
    let identity = format!("urn:loushan:station:{}:{station}", args.region);
    let mut params = CertificateParams::default();
    params.subject_alt_names.push(SanType::URI(identity.try_into()?));
    let client = end_entity(&ca, params, &station, ExtendedKeyUsagePurpose::ClientAuth)?;

    Ok(vec![
        ("ca.crt".to_owned(), ca.pem(), 0o644),
        ("ca.key".to_owned(), ca.key().serialize_pem(), 0o600),
        ("server.crt".to_owned(), server.0, 0o644),
        ("server.key".to_owned(), server.1, 0o600),
        (format!("{station}.crt"), client.0, 0o644),
        (format!("{station}.key"), client.1, 0o600),
    ])
}

/// A certificate and its key.
fn end_entity(
    ca: &CertifiedIssuer<'_, KeyPair>,
    mut params: CertificateParams,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> anyhow::Result<(String, String)> {
    expire(&mut params)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, ca)?.pem(), key.serialize_pem()))
}

fn expire(params: &mut CertificateParams) -> anyhow::Result<()> {
    #[allow(clippy::disallowed_methods)] // a command is of now, and nothing here is held still
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BEHIND);
    params.not_after = epoch + (now + VALID);
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    // A file that came meanwhile is not overwritten either.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_good_for_a_year_from_yesterday() {
        let mut params = CertificateParams::default();
        expire(&mut params).unwrap();
        assert_eq!((params.not_after - params.not_before).whole_days(), 366);
    }
}
