//! Values that hold secrets, as a programmer's `{:?}` prints them into a panic or a line of the log.

use super::heard::Heard;
use super::marker::Marker;
use super::program::Folder;
use super::{certificate, wire_client};
use std::ffi::OsString;
use turnpike::config::{Host, Inputs, load, settings};

const SECRET: &str = "mark/value+secret=Ml0kN9jB8hV";
const PASSWORD: &str = "mark/value+password=Gc7fX6dZ5";
const API_KEY: &str = "mark/value+api+key=Sa4aW3qE2r";
const TOKEN: &str = "mark/value+token=Ty1uI0oP9lK";
const ICE: &str = "mark/value+ice=Jm8nH7bG6vF";

#[test]
fn no_value_of_the_configuration_prints_its_secrets() {
    let mut heard = Heard::default();
    for (name, secret) in
        [("a secret", SECRET), ("an API key", API_KEY), ("the token", TOKEN), ("an ICE credential", ICE)]
    {
        heard.knows(Marker::text(name, secret));
    }
    heard.knows_user(wire_client::ALICE.0, PASSWORD);
    for (at, line) in certificate::KEY.lines().filter(|line| !line.starts_with("---")).enumerate() {
        heard.knows(Marker::text(&format!("line {at} of the private key"), line));
    }
    let folder = Folder::new();
    let text = format!(
        "realm = \"{}\"\n[listen]\nudp = [\"127.0.0.1:0\"]\ntls = [\"127.0.0.1:0\"]\n[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
         [auth]\nsecrets = [\"{SECRET}\"]\nusers = {{ alice = \"{PASSWORD}\" }}\n\
         [http]\napi_keys = [\"{API_KEY}\"]\nadmin_token_file = \"token.txt\"\n\
         [rooms]\nice_servers = [{{ urls = [\"turn:a\"], credential = \"{ICE}\" }}]\n",
        wire_client::REALM
    );
    let path = folder.write("t.toml", text);
    folder.write("token.txt", TOKEN);
    folder.write("cert.pem", certificate::CERTIFICATE);
    folder.write("key.pem", certificate::KEY);
    let set = format!("auth.users.bob={PASSWORD}");
    let variable = (OsString::from("TURNPIKE__AUTH__USERS__CAROL"), OsString::from(PASSWORD));
    let inputs = Inputs { files: vec![path.into()], env: vec![variable], set: vec![set.clone()] };
    let loaded = load(&inputs).unwrap_or_else(|fault| panic!("{fault}"));
    heard.said("the file", format!("{:?} {:#?}", loaded.file, loaded.file));
    heard.said("the file in JSON", serde_json::to_string(&loaded.file).expect("it has a form in JSON"));
    let host = Host::look().expect("the host can be asked");
    let mut plan = loaded.plan(&host).unwrap_or_else(|fault| panic!("{fault}"));
    plan.engine.turn.nonce.key = std::array::from_fn(|at| 0xA3 ^ at as u8);
    heard.knows(Marker::bytes("the key of nonces", &plan.engine.turn.nonce.key));
    heard.said("the engine's configuration", format!("{:?}", plan.engine));
    heard.said("the certificate", format!("{:?}", plan.identity));
    heard.said("the settings", format!("{:?}", settings::entries(&loaded, &plan.realm, 1)));
    heard.judge();
}

/// Whether a type can be printed by `{:?}`: its own constant where it can, else that of [`Unprinted`].
struct Printed<T>(std::marker::PhantomData<T>);

trait Unprinted {
    const BY_DEBUG: bool = false;
}

impl<T> Unprinted for Printed<T> {}

impl<T: std::fmt::Debug> Printed<T> {
    const BY_DEBUG: bool = true;
}

#[test]
fn what_holds_secrets_as_they_were_typed_can_not_be_printed() {
    const { assert!(Printed::<turnpike::config::secret::Secret>::BY_DEBUG, "it tells types apart") };
    const { assert!(!Printed::<Inputs>::BY_DEBUG) };
    const { assert!(!Printed::<turnpike::config::Plan>::BY_DEBUG) };
    const { assert!(!Printed::<turnpike::http::Live>::BY_DEBUG) };
    const { assert!(!Printed::<turnpike::cli::Arguments>::BY_DEBUG) };
    const { assert!(!Printed::<turnpike::cli::run::Options>::BY_DEBUG) };
    const { assert!(!Printed::<turnpike::cli::coturn::Options>::BY_DEBUG) };
    const { assert!(!Printed::<turnpike::cli::dev::Options>::BY_DEBUG) };
    const { assert!(!Printed::<turnpike::cli::explain::Options>::BY_DEBUG) };
    const { assert!(!Printed::<turnpike::cli::probe::Options>::BY_DEBUG) };
    const { assert!(!Printed::<turnpike::cli::load::Options>::BY_DEBUG) };
}
