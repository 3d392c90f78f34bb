//! The header is what the source says. `OVERLANE_BLESS=1 cargo test -p overlane-ffi --test header`
//! writes it anew.

use std::path::Path;

#[test]
fn the_committed_header_is_the_generated_one() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(crate_dir.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    // In the order in which they stand in the header.
    for file in [
        "version.rs",
        "status.rs",
        "types.rs",
        "raw/handle.rs",
        "entry/lifecycle.rs",
        "entry/control.rs",
        "entry/data.rs",
        "entry/read.rs",
    ] {
        builder = builder.with_src(crate_dir.join("src").join(file));
    }
    let mut generated = Vec::new();
    builder.generate().unwrap().write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();

    let path = crate_dir.join("../include/overlane.h");
    if std::env::var_os("OVERLANE_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&path, &generated).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    for (n, (was, is)) in committed.lines().zip(generated.lines()).enumerate() {
        assert_eq!(was, is, "include/overlane.h, line {}; bless it with OVERLANE_BLESS=1", n + 1);
    }
    assert!(
        committed == generated,
        "include/overlane.h is of another length; bless it with OVERLANE_BLESS=1"
    );
}
