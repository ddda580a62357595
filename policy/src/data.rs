//! Data documents, merged under the path of their folders as OPA does.

use serde_json::{Map, Value, map::Entry};

use crate::{LoadError, sources::Text};

/// One object of all `documents`: `a/b/x.json` stands at `data.a.b`.
pub(crate) fn merge(documents: &[Text]) -> Result<Value, LoadError> {
    let mut data = Map::new();
    for document in documents {
        let parsed: Value =
            serde_json::from_str(&document.text).map_err(|source| LoadError::Data {
                file: document.file.clone(),
                source,
            })?;
        let Value::Object(parsed) = parsed else {
            return Err(LoadError::DataNotObject {
                file: document.file.clone(),
            });
        };
        let folders: Vec<&str> = document.folders().collect();
        let below = folders.iter().rev().fold(parsed, |inner, folder| {
            Map::from_iter([((*folder).to_owned(), Value::Object(inner))])
        });
        add(&mut data, below, &mut Vec::new()).map_err(|path| LoadError::DataConflict {
            file: document.file.clone(),
            path,
        })?;
    }
    Ok(Value::Object(data))
}

/// Whether `data` gives a value to `path`, or to a prefix of it that is not an object.
pub(crate) fn covers(data: &Value, path: &[String]) -> bool {
    let mut at = data;
    for name in path {
        let Value::Object(fields) = at else {
            return true;
        };
        match fields.get(name) {
            Some(value) => at = value,
            None => return false,
        }
    }
    true
}

fn add(
    into: &mut Map<String, Value>,
    from: Map<String, Value>,
    path: &mut Vec<String>,
) -> Result<(), String> {
    for (key, value) in from {
        path.push(key.clone());
        match (into.entry(key), value) {
            (Entry::Vacant(free), value) => {
                free.insert(value);
            }
            (Entry::Occupied(mut taken), Value::Object(fields)) => match taken.get_mut() {
                Value::Object(known) => add(known, fields, path)?,
                _ => return Err(path.join(".")),
            },
            (Entry::Occupied(_), _) => return Err(path.join(".")),
        }
        path.pop();
    }
    Ok(())
}
