//! A ranker as an SQL function.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::types::sql_name;
use crate::rankers::Ranker;

/// `name(arguments …)`: the score of each row as DOUBLE. The engine calls it for a batch of rows on each of its threads.
///
/// Holds what its file in the store and the config's `rankers.NAME` say and nothing else, so that another process can make the
/// same function of these two and compare the file's SHA-256.
#[derive(Debug)]
pub struct RankerFunction {
    ranker: Arc<Ranker>,
    signature: Signature,
}

impl RankerFunction {
    pub fn new(ranker: Arc<Ranker>) -> Self {
        RankerFunction { ranker, signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl PartialEq for RankerFunction {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&self.ranker, &other.ranker);
        one.name == other.name && one.sha256 == other.sha256 && one.settings == other.settings
    }
}

impl Eq for RankerFunction {}

impl Hash for RankerFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.ranker.name, &self.ranker.sha256).hash(state);
    }
}

/// Whether values of a type can be given to a model.
fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || matches!(data_type, DataType::Boolean | DataType::Null)
}

impl ScalarUDFImpl for RankerFunction {
    fn name(&self) -> &str {
        &self.ranker.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let (found, wanted) = (arguments.len(), self.ranker.arguments.len());
        if found != wanted {
            return plan_err!("{} takes {wanted} arguments, found {found}", self.ranker.signature());
        }
        for (data_type, (argument, _)) in arguments.iter().zip(&self.ranker.arguments) {
            if !is_number(data_type) {
                return plan_err!(
                    "argument `{argument}` of {}: found {}, expected a number or a boolean; turn it into one as it was when the model was trained",
                    self.ranker.signature(),
                    sql_name(data_type)
                );
            }
        }
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        match self.ranker.score(&columns) {
            Ok(scores) => Ok(ColumnarValue::Array(Arc::new(scores) as ArrayRef)),
            Err(error) => exec_err!("{error}"),
        }
    }
}
