//! The schema of JSON output, applied: `docs/reference/output.schema.json` by a validator that is
//! not ours.

use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

/// The file that users get.
const SCHEMA: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/output.schema.json"));

/// What is wrong with the first line that is no object of the schema.
pub(crate) fn check(text: &str) -> Result<(), String> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    let validator = VALIDATOR.get_or_init(|| {
        let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        jsonschema::meta::validate(&schema).expect("the schema is one");
        jsonschema::validator_for(&schema).expect("the schema can be used")
    });
    for line in text.lines() {
        let object: Value =
            serde_json::from_str(line).map_err(|why| format!("not JSON: {why}: {line}"))?;
        validator.validate(&object).map_err(|why| format!("not of the schema: {why}: {line}"))?;
    }
    Ok(())
}
