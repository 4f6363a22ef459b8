//! What is asked of this part of the plane.

use super::fixture::Fixture;

#[test]
fn it_starts_and_answers() {
    let fixture = Fixture::start();
    assert_eq!(fixture.get("/no-such-page").status, 404);
}
