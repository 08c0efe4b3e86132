//! Prints the API's description: `cargo run -p chassis-api --example openapi > docs/openapi.json`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{:#}", chassis_api::openapi())
}
