//! The words of an error's body: one bounded line, however they are wrapped.

use serde_json::{Value, json};
use snapring::foreign;
use snapring::provider::body;

/// Some punctuation more than the 160 characters that are shown.
const MOST: usize = 161;

pub fn check(data: &[u8]) {
    never_shows_the_token(data);
    let message = body::error_message(data);
    crate::assert_one_line(&message.to_string(), MOST);
    // Nothing is an answer too long to be told.
    if let Err(reason) = body::token_info(data) {
        crate::assert_one_line(&reason, 200);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Words that are no JSON read the same wherever the provider puts them.
    let is_json = serde_json::from_slice::<Value>(data).is_ok();
    let blank = text.trim().is_empty();
    if !is_json && !blank {
        for key in ["detail", "error", "message"] {
            let wrapped = json!({ key: text }).to_string();
            assert_eq!(body::error_message(wrapped.as_bytes()), message);
        }
        assert_eq!(body::error_message(json!(text).to_string().as_bytes()), message);
    }
}

/// A provider may say the token back, and anywhere: where the input has a `$`, it stands.
fn never_shows_the_token(data: &[u8]) {
    let token = "vps_Zq7Kx2Wv9Jb4Ng6Tf3Hd8";
    foreign::mask(token, "[token]");
    let told = |said: &str| {
        let mut told = Vec::new();
        for byte in data.iter().take(1000) {
            match byte {
                b'$' => told.extend(said.as_bytes()),
                other => told.push(*other),
            }
        }
        body::error_message(&told).to_string()
    };
    // libFuzzer finds the token's beginning here, and would say it by itself.
    if told("-").contains("vps_Z") {
        return;
    }
    let shown = told(token);
    assert!(!shown.contains("vps_Z"), "{shown}");
}
