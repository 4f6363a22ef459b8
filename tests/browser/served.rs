//! The pages as HTTP: what is found under which name, and what every answer bears.

use serde_json::Value;

use crate::fixture::{Answer, Fixture, request};

fn ask(house: &Fixture, path: &str, headers: &[(&str, &str)]) -> Answer {
    request(house.public, "GET", path, headers, "")
}

/// What a page is told in its data block.
fn told(answer: &Answer) -> Value {
    let text = answer.text();
    let (_, rest) = text.split_once(r#"id="loading-params">"#).expect("a data block");
    let (block, _) = rest.split_once("</script>").expect("its end");
    serde_json::from_str(block).expect("JSON")
}

#[test]
fn every_page_and_asset_is_served_with_its_policy() {
    let house = Fixture::start();
    let page = ask(&house, "/r/some-room", &[]);
    let mut paths = vec!["/".to_owned(), "/test".into(), "/r/some-room".into(), "/robots.txt".into()];
    let mut named: Vec<&str> = page.text().split('"').filter(|part| part.starts_with("/assets/")).collect();
    named.iter_mut().for_each(|part| *part = part.split('#').next().expect("the first part"));
    paths.extend(named.into_iter().map(str::to_owned));
    for path in paths {
        let answer = ask(&house, &path, &[]);
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        let body = answer.text();
        for inline in [" style=", " onclick=", "javascript:", "<style"] {
            assert!(!body.contains(inline), "{path} has {inline}, which the policy refuses");
        }
        let scripts = body.matches("<script").count();
        let harmless = body.matches(r#"<script type="module" src="/assets/"#).count()
            + body.matches(r#"<script type="application/json" id="loading-params">"#).count()
            + body.matches(r#"<script type="text/plain" id="apprtc-params">"#).count();
        assert!(path.starts_with("/assets/") || scripts == harmless, "{path} has an inline script");
    }
}

#[test]
fn an_asset_is_asked_for_again_and_not_sent_again() {
    let house = Fixture::start();
    let first = ask(&house, "/assets/style.css", &[]);
    let tag = first.header("etag").expect("a tag");
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    assert_eq!(first.header("content-type"), Some("text/css; charset=utf-8"));
    let again = ask(&house, "/assets/style.css", &[("if-none-match", tag)]);
    assert_eq!((again.status, again.body.len()), (304, 0));
    let weak = ask(&house, "/assets/style.css", &[("if-none-match", &format!("\"x\", W/{tag}"))]);
    assert_eq!(weak.status, 304);
}

#[test]
fn only_names_of_the_table_are_found() {
    let house = Fixture::start();
    let paths = [
        "/assets/",
        "/assets/call.html",
        "/assets/nothing.js",
        "/assets/%2e%2e/pages.rs",
        "/assets/..%2fpages.rs",
        "/assets/%2e%2e%2f%2e%2e%2fmod.rs",
        "/assets//style.css",
        "//assets/style.css",
        "/assets/style.css%00",
        "/assets/./style.css",
        "/assets/../public/style.css",
        "/assets/admin/index.html",
        "/assets/console.js",
        "/assets/STYLE.CSS",
        "/assets/style%2ecss",
    ];
    for path in paths {
        let answer = ask(&house, path, &[]);
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[test]
fn a_room_page_is_told_its_room_and_a_token() {
    let house = Fixture::start();
    let page = ask(&house, "/r/My-room_1?it=relay&x=%3C/script%3E%3Cscript%3Ealert(1)%3C/script%3E", &[]);
    assert_eq!(page.status, 200);
    assert_eq!(page.header("cache-control"), Some("no-store"), "it holds a token");
    assert!(page.text().contains("roomId: 'My-room_1'"), "AppRTC's own checks look for this");
    assert!(!page.text().contains("alert(1)</script>"), "what a link says stays text");
    let params = told(&page);
    assert_eq!(params["room_id"], "My-room_1");
    let url = params["ice_server_url"].as_str().expect("a URL");
    let path = url.split_once(&house.public.to_string()).expect("of this server").1;
    let credentials = request(house.public, "POST", path, &[], "");
    assert_eq!(credentials.status, 200, "the token is good");
    let username = credentials.json()["iceServers"].to_string();
    assert!(username.contains(":room-My-room_1"), "for the user of this room: {username}");
}

#[test]
fn what_names_no_room_has_no_page() {
    let house = Fixture::start();
    let long = "a".repeat(65);
    for name in ["a.b", "a%20b", "%C3%A9", "%FF", "a%2Fb", "%3Cscript%3E", "a%00", &long] {
        let answer = ask(&house, &format!("/r/{name}"), &[]);
        assert_eq!(answer.status, 404, "{name}");
        assert!(answer.text().contains("There is nothing here."), "{name}: a page for people");
    }
    for name in ["a", "a-b_C9", &"a".repeat(64), "%61bc"] {
        assert_eq!(ask(&house, &format!("/r/{name}"), &[]).status, 200, "{name}");
    }
}

#[test]
fn the_third_is_told_that_the_room_is_full() {
    let house = Fixture::start();
    for _ in 0..2 {
        assert_eq!(house.post("/join/small-room", "").json()["result"], "SUCCESS");
    }
    let full = ask(&house, "/r/small-room", &[]);
    assert_eq!(full.status, 200);
    assert!(full.text().contains("Sorry, this room is full."));
    assert!(full.text().contains("Room full</title>"), "and its title says so");
    assert_eq!(full.header("cache-control"), Some("no-store"));
    let alone = ask(&house, "/r/small-room?debug=loopback", &[]);
    assert!(alone.text().contains("roomId: 'small-room'"), "who tries the relay alone takes no seat");
}

#[test]
fn without_rooms_the_landing_page_says_so() {
    let house = Fixture::with(|live| live.rooms = None);
    assert_eq!(told(&ask(&house, "/", &[]))["rooms"], false);
    assert_eq!(ask(&house, "/r/some-room", &[]).status, 404);
    assert!(told(&ask(&house, "/test", &[]))["key"].is_null(), "nor is a stranger given credentials to test with");
    let house = Fixture::start();
    assert_eq!(told(&ask(&house, "/", &[]))["rooms"], true);
    let key = told(&ask(&house, "/test", &[]))["key"].as_str().expect("a token").to_owned();
    let status = || ask(&house, &format!("/v1/test?key={key}"), &[]).status;
    assert_eq!(status(), 200);
    house.change(|live| live.rooms = None);
    assert_eq!(status(), 403, "a token does not outlive the rooms");
}

#[test]
fn the_self_test_has_a_token_of_its_own() {
    let house = Fixture::start();
    let page = ask(&house, "/test", &[]);
    let key = told(&page)["key"].as_str().expect("a token").to_owned();
    let offer = ask(&house, &format!("/v1/test?key={key}"), &[]).json();
    assert_eq!(offer["servers"].as_array().map(Vec::len), Some(2), "{offer}");
    assert!(offer["credential"].is_string(), "{offer}");
}
