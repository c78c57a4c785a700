#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_platform_is_the_sources_or_the_machines() {
    let arm = Documents::bare(Some("linux/arm/v7")).config;
    assert_eq!(
        (&arm["os"], &arm["architecture"], &arm["variant"]),
        (&json!("linux"), &json!("arm"), &json!("v7"))
    );
    for none in [None, Some("")] {
        let own = Documents::bare(none);
        assert_eq!(own.platform(), format!("linux/{}", architecture()));
    }
}
