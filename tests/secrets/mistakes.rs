//! Configurations with a mistake beside a secret: what is said of them shows the place, and not the secret.

use super::heard::Heard;
use super::marker::Marker;
use super::program::{Folder, said, turnpike};

const PASSWORD: &str = "mark/password+in+file=Qa1wS2eD";
const SECRET: &str = "mark/secret+in+file=Zx3cV4bN5m";
const API_KEY: &str = "mark/api+key+in+file=Ty6uI7oP";
/// As `openssl rand -hex 20` prints one.
const HEX: &str = "0f8d72c41be5963ad09477e1fb53c26a1d0e94b7";
const ICE: &str = "mark/ice+in+file=Gh8jK9lM0nB";

/// A configuration broken in many ways, each on a line with one of its secrets.
pub fn broken(good: &str, password: &str, secret: &str, api_key: &str, ice: &str) -> Vec<String> {
    let quoted = |text: &str| format!("\"{text}\"");
    let (p, s, a, i) = (quoted(password), quoted(secret), quoted(api_key), quoted(ice));
    let replaced = [
        // No TOML at all, or not there.
        (&s, format!("{s}, {s}]]")),
        (&s, s.trim_end_matches('"').to_owned()),
        (&s, format!("{s} {s}")),
        (&p, format!("{p}, alice = {p}")),
        (&p, format!("'''{password}\n")),
        // TOML that is not this configuration.
        (&s, format!("{{ {s} = 1 }}")),
        (&s, format!("[{s}]")),
        (&s, [&*s; 5].join(", ")),
        (&p, format!("[{p}]")),
        (&p, format!("{{ password = {p} }}")),
        (&p, format!("\"{password}\\u0000\"")),
        (&a, format!("[{a}]")),
        (&a, format!("{a}, \"short\"")),
        (&i, format!("{i}, password = {i}")),
        (&i, format!("{i}, \"password\" = [{i}]")),
        (&i, format!("[{i}]")),
    ];
    let mut broken: Vec<String> = replaced.iter().map(|(from, to)| good.replacen(&***from, to, 1)).collect();
    let headed = [
        format!("secret = {s}\n"),
        format!("auth = {s}\n"),
        // Pasted alone, as `openssl rand -base64` prints it.
        format!("{secret}\n"),
        format!("{secret}=\n"),
        format!("[auth.users]\n{p}\n"),
        format!("pasword = {p}\n"),
    ];
    broken.extend(headed.into_iter().map(|line| format!("{line}{good}")));
    for text in &broken {
        assert_ne!(text, good, "each has its mistake");
    }
    broken
}

fn heard() -> Heard {
    let mut heard = Heard::default();
    for (name, secret) in
        [("a password", PASSWORD), ("a secret", SECRET), ("an API key", API_KEY), ("an ICE credential", ICE)]
    {
        heard.knows(Marker::text(name, secret));
    }
    heard
}

fn good() -> String {
    format!(
        "[listen]\nudp = [\"127.0.0.1:0\"]\ntcp = []\n[auth]\nsecrets = [\"{SECRET}\"]\nusers = {{ alice = \"{PASSWORD}\" }}\n\
         [http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\napi_keys = [\"{API_KEY}\"]\n\
         [rooms]\nice_servers = [{{ urls = [\"turn:a\"], credential = \"{ICE}\" }}]\n"
    )
}

#[test]
fn a_refused_configuration_is_not_shown_with_its_secrets() {
    let (folder, mut heard) = (Folder::new(), heard());
    folder.write("good.toml", good());
    let (code, text) = said(&mut turnpike(&folder, &["check", "-c", "good.toml"]));
    assert_eq!(code, Some(0), "{text}");
    heard.said("the good one", text);
    for (at, text) in broken(&good(), PASSWORD, SECRET, API_KEY, ICE).into_iter().enumerate() {
        folder.write("broken.toml", &text);
        for command in [
            &["check"][..],
            &["run"],
            &["check", "--format", "json"],
            &["credentials", "--user", "x"],
            &["explain", "peer", "10.0.0.1"],
        ] {
            let (code, told) = said(&mut turnpike(&folder, &[command, &["-c", "broken.toml"]].concat()));
            assert_eq!(code, Some(78), "{at} {command:?}\n{text}\n{told}");
            assert!(told.contains("broken.toml"), "{told}");
            heard.said(format!("{command:?} of {at}"), told);
        }
    }
    heard.judge();
}

#[test]
fn a_refused_setting_is_not_shown_with_its_secret() {
    let (folder, mut heard) = (Folder::new(), heard());
    folder.write("good.toml", good());
    for (key, value) in [
        ("auth.secrets", format!("[\"{SECRET}\", \"short\"]")),
        ("auth.secrets", format!("[\"{SECRET}\"")),
        ("auth.secrets", format!("{{ a = \"{SECRET}\" }}")),
        ("auth.users", PASSWORD.to_owned()),
        ("auth.users", format!("{{ alice = [\"{PASSWORD}\"] }}")),
        ("auth.secret", SECRET.to_owned()),
        ("auth.password", PASSWORD.to_owned()),
        ("http.api_keys", format!("[[\"{API_KEY}\"]]")),
        ("rooms.ice_servers", format!("[{{ urls = [\"turn:a\"], credential = [\"{ICE}\"] }}]")),
    ] {
        let (set, name) = (format!("{key}={value}"), format!("TURNPIKE__{}", key.to_uppercase().replace('.', "__")));
        let (code, told) = said(&mut turnpike(&folder, &["check", "-c", "good.toml", "--set", &set]));
        assert_eq!(code, Some(78), "{set}: {told}");
        heard.said(format!("--set {key}"), told);
        let (code, told) = said(turnpike(&folder, &["run", "-c", "good.toml"]).env(&name, &value));
        assert_eq!(code, Some(78), "{name}={value}: {told}");
        heard.said(name, told);
    }
    // Written without its key.
    for set in [SECRET.to_owned(), SECRET.replace("=", "+"), HEX.to_owned(), format!("{SECRET}==")] {
        let (code, told) = said(&mut turnpike(&folder, &["check", "-c", "good.toml", "--set", &set]));
        assert_eq!(code, Some(78), "{told}");
        heard.said("--set without a key", told);
    }
    heard.judge();
}
