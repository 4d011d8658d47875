//! Points in time.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};

use crate::domain::time::Timestamp;

pub(crate) struct DateTime(pub Timestamp);

/// A point in time by RFC 3339, in UTC with milliseconds: `2026-01-31T13:37:00.000Z`. As an argument any offset and
/// precision is taken.
#[Scalar(specified_by_url = "https://www.rfc-editor.org/rfc/rfc3339")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => match text.parse() {
                Ok(at) => Ok(Self(at)),
                Err(_) => Err(InputValueError::custom("not a date and time by RFC 3339")),
            },
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::String(text) if text.parse::<Timestamp>().is_ok())
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}
