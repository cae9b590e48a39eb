//! Canonical JSON, the bytes that TUF metadata is signed over
//! (<http://gibson042.github.io/canonicaljson-spec/> is stricter; this is OLPC's, as python-tuf and go-tuf sign:
//! keys sorted by code point, no white space, strings escape `"` and `\` alone, integers only).

use serde_json::Value;

/// The canonical form; `None` where there is none: a number that is not an integer.
pub fn canonical(value: &Value) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    write(value, &mut bytes)?;
    Some(bytes)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) if number.is_u64() || number.is_i64() => {
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::Number(_) => return None,
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(entries) => {
            // UTF-8 sorts as code points do.
            let mut keys: Vec<&String> = entries.keys().collect();
            keys.sort_unstable();
            out.push(b'{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                string(key, out);
                out.push(b':');
                write(entries.get(key)?, out)?;
            }
            out.push(b'}');
        }
    }
    Some(())
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sorted_bare_and_barely_escaped() {
        let value = serde_json::from_str::<Value>(
            "{\"b\": [1, -2, true, null], \"a\": \"x\\n\\\"\\\\\\u00e4\", \"\\uffff\": 0, \"\\ud83d\\ude00\": {}}",
        );
        let bytes = canonical(&value.unwrap()).unwrap();
        let wanted =
            "{\"a\":\"x\n\\\"\\\\ä\",\"b\":[1,-2,true,null],\"\u{ffff}\":0,\"\u{1f600}\":{}}";
        assert_eq!(String::from_utf8(bytes).unwrap(), wanted);
    }

    #[test]
    fn what_has_no_canonical_form() {
        for text in ["1.5", "[1e400]", "{\"a\":0.1}", "18446744073709551616"] {
            if let Ok(value) = serde_json::from_str::<Value>(text) {
                assert!(canonical(&value).is_none(), "{text}");
            }
        }
    }
}
