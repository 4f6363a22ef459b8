//! `turnpike credentials`: mints a time-limited credential (the TURN REST draft).

use super::{Configuration, Failure, host, print};
use crate::config::secret::{Secret, USER_NAME_LEN_MAX};
use crate::config::value::Seconds;
use crate::config::{self, Fault, secret_file, uris};
use crate::turn::auth::Caps;
use crate::wire::integrity;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// `turnpike credentials`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  turnpike credentials --user alice --ttl 8h -c /etc/turnpike.toml\n  \
                        turnpike credentials --user guest --allocations 2 --bytes 1000000000 -c /etc/turnpike.toml")]
pub struct Options {
    /// Whom it is for; becomes part of the user name
    #[arg(long, value_name = "ID")]
    pub user: String,
    /// How long it is good: 10m, 1h30m or seconds
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub ttl: Seconds,
    /// Allocations its user may hold at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub allocations: Option<u32>,
    /// Bytes a second of each of its allocations, each way
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub bytes_per_second: Option<u64>,
    /// Bytes it may relay in all, both ways together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub bytes: Option<u64>,
    /// Mint with the first secret of this file in place of the configured one
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Where the configuration is.
    #[command(flatten)]
    pub configuration: Configuration,
}

/// A credential as a client is given it.
pub struct Credential {
    /// `EXPIRY:ID`, with the caps behind the expiry.
    pub username: String,
    /// The password.
    pub password: String,
}

/// Mints and prints.
pub fn credentials(options: &Options) -> Result<(), Failure> {
    let loaded = match options.secret_file {
        // The defaults do when the secret comes from elsewhere.
        Some(_) => config::load(&options.configuration.inputs())?,
        None => options.configuration.load()?,
    };
    let host = host()?;
    if options.ttl > loaded.file.auth.max_ttl {
        let (ttl, max) = (options.ttl, loaded.file.auth.max_ttl);
        let origin = loaded.origins.of("auth.max_ttl");
        return Err(Failure::Other(format!("--ttl {ttl} is longer than auth.max_ttl = {max} ({origin})")));
    }
    let secrets = match &options.secret_file {
        Some(path) => secret_file(path)?,
        None => loaded.secrets()?,
    };
    let Some(secret) = secrets.first() else {
        return Err(Fault::new("there is no secret to mint with")
            .hint("add secrets = [\"…\"] under [auth], or name a file with --secret-file")
            .into());
    };
    let caps =
        Caps { allocations: options.allocations, bytes_per_second: options.bytes_per_second, bytes: options.bytes };
    let credential = mint(secret, &options.user, caps, options.ttl, loaded.file.auth.separator.0)?;
    let listeners = loaded.listeners(&host)?;
    let uris = uris::uris(&listeners, &loaded.file.relay.external, &loaded.realm(&host));
    print(&format!("{:#}\n", uris::ice_servers(&uris, &credential.username, &credential.password)));
    Ok(())
}

/// Makes a credential for `id` that expires `ttl` from now.
pub fn mint(secret: &Secret, id: &str, caps: Caps, ttl: Seconds, separator: char) -> Result<Credential, Failure> {
    if !caps.can_stand_before(separator) {
        let what = format!("caps can not be given while auth.separator is \"{separator}\": choose another one");
        return Err(Failure::Other(what));
    }
    if ttl.0 == 0 {
        return Err(Failure::Other("--ttl is at least one second".into()));
    }
    if id.is_empty() || id.contains(['\0', '\r', '\n']) {
        return Err(Failure::Other("--user is a name on one line".into()));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let username = format!("{}{caps}{separator}{id}", now + ttl.0);
    if username.len() > USER_NAME_LEN_MAX {
        return Err(Failure::Other(format!(
            "--user is too long: with the expiry it has {} bytes, \
             and a user name has at most {USER_NAME_LEN_MAX}",
            username.len()
        )));
    }
    let password = integrity::rest_password(secret.as_bytes(), username.as_bytes());
    Ok(Credential { password: String::from_utf8_lossy(&password).into_owned(), username })
}
