//! What may be asked: one SELECT, of functions that read numbers, times and names.
//!
//! A function is possible when it is named here. Left out is what looks outside of the table, and what makes long texts out
//! of short ones: DataFusion doesn't count the memory of a text while it is made.

use super::{SqlError, TEXT_BYTES_MAX, ignored};
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::expr::WindowFunctionDefinition;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::Statement as Ast;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Longest text between quotes, bytes: it may be repeated in every row.
const QUOTED_BYTES_MAX: usize = 128;

/// Most operators and keywords: a chain of them is a tree as deep, and planning it takes time by the square.
const OPERATORS_MAX: usize = 400;
/// Most tables, joins, groupings and the like in a plan: each way to join them is weighed.
const STEPS_MAX: usize = 100;

#[rustfmt::skip]
const FUNCTIONS: &[&str] = &[
    // numbers
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "cos", "cosh", "cot", "degrees", "exp",
    "factorial", "floor", "gcd", "isnan", "iszero", "lcm", "ln", "log", "log10", "log2", "nanvl", "pi", "power", "radians",
    "round", "signum", "sin", "sinh", "sqrt", "tan", "tanh", "trunc",
    // times
    "current_date", "current_time", "date_bin", "date_part", "date_trunc", "from_unixtime", "make_date", "now", "to_char",
    "to_date", "to_local_time", "to_timestamp", "to_timestamp_micros", "to_timestamp_millis", "to_timestamp_nanos",
    "to_timestamp_seconds", "to_unixtime",
    // names
    "btrim", "character_length", "contains", "ends_with", "left", "lower", "ltrim", "regexp_like", "right", "rtrim",
    "split_part", "starts_with", "strpos", "substr", "upper",
    // whichever
    "coalesce", "greatest", "least", "nullif", "nvl", "nvl2",
    // many as one
    "approx_distinct", "approx_median", "approx_percentile_cont", "approx_percentile_cont_with_weight", "avg", "bit_and",
    "bit_or", "bit_xor", "bool_and", "bool_or", "corr", "count", "covar_pop", "covar_samp", "first_value", "grouping",
    "last_value", "max", "median", "min", "nth_value", "percentile_cont", "regr_avgx", "regr_avgy", "regr_count",
    "regr_intercept", "regr_r2", "regr_slope", "regr_sxx", "regr_sxy", "regr_syy", "stddev", "stddev_pop", "sum", "var",
    "var_pop",
    // beside others
    "cume_dist", "dense_rank", "lag", "lead", "ntile", "percent_rank", "rank", "row_number",
];

/// The one statement of a text.
pub(super) fn statement(text: &str) -> Result<Statement, SqlError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(refused(format!("the query has {} bytes; {TEXT_BYTES_MAX} are possible", text.len())));
    }
    let operators = operators(text);
    if operators > OPERATORS_MAX {
        return Err(refused(format!(
            "the query has {operators} operators and keywords; {OPERATORS_MAX} are possible: IN (…) takes many values at once"
        )));
    }
    let mut statements = DFParser::parse_sql(text).map_err(|error| super::words::refused(&error))?;
    match (statements.pop_front(), statements.len()) {
        (None, _) => Err(refused("the query is empty".into())),
        (Some(_), 1..) => Err(refused("only one statement at a time is possible".into())),
        (Some(Statement::Statement(ast)), 0) if matches!(*ast, Ast::Query(_)) => match ignored::clause(&*ast) {
            Some(clause) => Err(refused(format!("{clause}: that is not possible here"))),
            None => Ok(Statement::Statement(ast)),
        },
        (Some(other), 0) => {
            let first: String = other.to_string().split_whitespace().take(1).collect();
            Err(refused(format!("only SELECT is possible here, nothing is ever changed; this is {first}")))
        }
    }
}

/// What of a text is neither a name, a value nor what stands between them. What can't be read so is the parser's to refuse.
fn operators(text: &str) -> usize {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().unwrap_or_default();
    let is_operator = |token: &&Token| match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::Whitespace(_) | Token::Number(..) | Token::SingleQuotedString(_) => false,
        Token::Comma | Token::Period | Token::LParen | Token::RParen => false, // the parser bounds brackets itself
        _ => true,
    };
    tokens.iter().filter(is_operator).count()
}

/// Refuses a plan that holds anything else than looking.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(plan)?;
    let mut steps = 0;
    plan.apply_with_subqueries(|node| {
        steps += 1;
        node.apply_expressions(|expr| expr.apply(part_of))
    })?;
    if steps > STEPS_MAX {
        return plan_error(format!("the query takes {steps} steps; {STEPS_MAX} are possible: ask for less at once"));
    }
    Ok(())
}

fn part_of(expr: &Expr) -> Result<TreeNodeRecursion> {
    let function = match expr {
        Expr::ScalarFunction(call) => call.func.name(),
        Expr::AggregateFunction(call) => call.func.name(),
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => function.name(),
            WindowFunctionDefinition::WindowUDF(function) => function.name(),
        },
        Expr::BinaryExpr(both) if both.op == Operator::StringConcat => "||",
        Expr::Literal(
            ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) if text.len() > QUOTED_BYTES_MAX => {
            return plan_error(format!(
                "a text between quotes has {} bytes; {QUOTED_BYTES_MAX} are possible",
                text.len()
            ));
        }
        _ => return Ok(TreeNodeRecursion::Continue),
    };
    if FUNCTIONS.contains(&function) {
        return Ok(TreeNodeRecursion::Continue);
    }
    plan_error(format!("{function} is not possible here: only what reads numbers, times and names is"))
}

fn plan_error<T>(why: String) -> Result<T> {
    Err(DataFusionError::Plan(why))
}

fn refused(why: String) -> SqlError {
    SqlError::Refused(why)
}
