//! In a network of its own, whose link is narrow: the longest payload is what fits it.

use super::runs::Scratch;
use serde_json::Value;
use std::process::Command;

/// Bytes of a packet on the link.
const MTU: u64 = 1300;

/// Serves and probes behind a narrow loopback; a Binding that is answered says that the server is there.
const NARROW: &str = r#"
set -eu
ip link set lo mtu "$MTU" up
"$TURNPIKE" run -c "$CONFIG" > "$CONFIG.log" 2>&1 & server=$!
trap 'kill $server' EXIT
tries=0
until "$TURNPIKE" probe stun:127.0.0.1 --timeout 1s > "$CONFIG.ready" 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { cat "$CONFIG.ready" "$CONFIG.log" >&2; exit 1; }
    sleep 0.05
done
"$TURNPIKE" probe turn:127.0.0.1 'turn:[::1]' --user alice --password wonderland --packets 10 --format json
"#;

#[test]
fn the_longest_payload_is_what_fits_the_link() {
    let scratch = Scratch::new();
    let config = "realm = \"x\"\nworkers = 1\n[listen]\nudp = [\"127.0.0.1:3478\", \"[::1]:3478\"]\ntcp = []\n\
                  [relay]\nallow_loopback_peers = true\n[auth]\nusers = { alice = \"wonderland\" }\n\
                  [http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n";
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", NARROW])
        .env("TURNPIKE", env!("CARGO_BIN_EXE_turnpike"))
        .env("CONFIG", scratch.file("turnpike.toml", config))
        .env("MTU", MTU.to_string())
        .output()
        .expect("unshare is there (util-linux)");
    let [printed, said] = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(run.status.success(), "{printed}\n{said}");
    let report: Value = serde_json::from_str(&printed).expect("it prints JSON");
    // Behind the headers of IP, UDP and ChannelData.
    for (target, heads) in report["targets"].as_array().expect("an array").iter().zip([20 + 8 + 4, 40 + 8 + 4]) {
        let mtu = &target["steps"]["mtu"];
        assert_eq!(
            (mtu["payload_bytes"].as_u64(), mtu["at_least"].as_bool()),
            (Some(MTU - heads), Some(false)),
            "{mtu}"
        );
        assert_eq!(mtu["unfragmented"], true);
    }
}
