//! Builds for development and tests have fail points; a release build does not contain them.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(fail_points)");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        println!("cargo::rustc-cfg=fail_points");
    }
}
