//! Points in time.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};

use crate::domain::time::Timestamp;

pub(crate) struct DateTime(pub Timestamp);

/// Date and time as of RFC 3339. Results are in UTC with milliseconds, such as `2026-01-31T13:37:00.000Z`. Arguments
/// may have any offset and any precision.
#[Scalar(specified_by_url = "https://www.rfc-editor.org/rfc/rfc3339")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => match text.parse() {
                Ok(at) => Ok(Self(at)),
                Err(_) => Err(InputValueError::custom(
                    "expected a date and time as of RFC 3339, such as 2026-01-31T13:37:00Z",
                )),
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
