//! Where something stands in a JSON text: `flow.value`, `p[1]`, or a JSON pointer (RFC 6901) like `/odd.name/0`.

use serde_json::Value;

/// A path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    steps: Vec<String>,
    text: String,
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for Path {
    type Err = String;

    /// Reads a path. The empty one is the whole text.
    ///
    /// # Errors
    /// With what is wrong, in words.
    fn from_str(text: &str) -> Result<Self, String> {
        let steps = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect(),
            None if text.is_empty() => Vec::new(),
            None => dotted(text)?,
        };
        Ok(Self { steps, text: text.to_owned() })
    }
}

fn dotted(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("\"{text}\" is no path, like \"flow.value\", \"p[1]\" or \"/flow/value\"");
    let mut steps = Vec::new();
    for part in text.split('.') {
        let (key, mut indices) = part.split_at(part.find('[').unwrap_or(part.len()));
        if key.is_empty() && (indices.is_empty() || !steps.is_empty()) {
            return Err(wrong());
        }
        if !key.is_empty() {
            steps.push(key.to_owned());
        }
        while !indices.is_empty() {
            let (index, rest) = indices.strip_prefix('[').and_then(|i| i.split_once(']')).ok_or_else(wrong)?;
            index.parse::<usize>().map_err(|_| wrong())?;
            steps.push(index.to_owned());
            indices = rest;
        }
    }
    Ok(steps)
}

impl Path {
    /// What stands there, when there is something.
    #[must_use]
    pub fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.steps.iter().try_fold(value, |value, step| match value {
            Value::Object(fields) => fields.get(step),
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check(path: &str, expected: Option<Value>) {
        let value = json!({"flow": {"value": 1}, "p": [[4], 5], "odd.name": {"~/": 6}, "7": 8, "": 9});
        let path: Path = path.parse().unwrap();
        assert_eq!(path.find(&value), expected.as_ref(), "{path}");
    }

    #[test]
    fn dots_brackets_and_pointers_lead_to_values() {
        check("flow.value", Some(json!(1)));
        check("p[1]", Some(json!(5)));
        check("p.0[0]", Some(json!(4)));
        check("p[0][0]", Some(json!(4)));
        check("/odd.name/~0~1", Some(json!(6)));
        check("7", Some(json!(8)));
        check("/", Some(json!(9)));
        check("p[2]", None);
        check("flow.value.x", None);
        check("p.x", None);
    }

    #[test]
    fn the_empty_path_is_the_whole_and_an_array_can_be_the_whole() {
        assert_eq!("".parse::<Path>().unwrap().find(&json!(3)), Some(&json!(3)));
        assert_eq!("[1]".parse::<Path>().unwrap().find(&json!([1, 2])), Some(&json!(2)));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for wrong in [".", "a.", ".a", "a[", "a[x]", "a[1]b", "a..b", "a.[1]"] {
            assert!(wrong.parse::<Path>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,30}") {
            if let Ok(path) = text.parse::<Path>() {
                let _ = path.find(&json!({"a": [1]}));
            }
        }
    }
}
