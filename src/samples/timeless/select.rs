//! What one SELECT says by itself, whatever it reads: the columns that it asks for, and whether it makes nothing but
//! ids.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, GroupByExpr, Ident, JoinConstraint, JoinOperator, Select, SelectItem,
    TableFactor, TableWithJoins, Visit, Visitor,
};

use crate::samples::ast::normal;

/// Columns that say who or what a row is about, and nothing of it.
const IDS: [&str; 2] = ["user_id", "item_id"];

/// Columns by qualifier and name.
#[derive(Default)]
pub struct Names(pub BTreeSet<(Option<String>, String)>);

impl Names {
    /// What `select` asks for: the columns that its conditions, groups and orders go by, and with `joined` those of its
    /// result.
    pub fn asked_in(select: &Select, joined: bool) -> Self {
        let mut asked = Names::default();
        let _ = select.selection.visit(&mut asked);
        let _ = select.group_by.visit(&mut asked);
        let _ = select.having.visit(&mut asked);
        let _ = select.qualify.visit(&mut asked);
        let _ = select.named_window.visit(&mut asked);
        let _ = select.projection.visit(&mut InOrders(&mut asked));
        for from in &select.from {
            constraints(from, &mut asked);
        }
        if joined {
            // who writes the time of a joined source into the result knows of it
            let _ = select.projection.visit(&mut asked);
        }
        asked
    }

    /// What stands anywhere in an expression.
    pub fn within(expr: &Expr) -> Self {
        let mut names = Names::default();
        let _ = expr.visit(&mut names);
        names
    }
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => {
                self.0.insert((None, normal(name)));
            }
            Expr::CompoundIdentifier(parts) => {
                if let [qualifier, name] = parts.as_slice() {
                    self.0.insert((Some(normal(qualifier)), normal(name)));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The columns named in the conditions of joins.
fn constraints(from: &TableWithJoins, asked: &mut Names) {
    if let TableFactor::NestedJoin { table_with_joins, .. } = &from.relation {
        constraints(table_with_joins, asked);
    }
    for join in &from.joins {
        if let TableFactor::NestedJoin { table_with_joins, .. } = &join.relation {
            constraints(table_with_joins, asked);
        }
        let _ = join.join_operator.visit(asked);
        use JoinOperator::*;
        if let Join(JoinConstraint::Using(columns))
        | Inner(JoinConstraint::Using(columns))
        | Left(JoinConstraint::Using(columns))
        | LeftOuter(JoinConstraint::Using(columns))
        | Right(JoinConstraint::Using(columns))
        | RightOuter(JoinConstraint::Using(columns))
        | FullOuter(JoinConstraint::Using(columns)) = &join.join_operator
        {
            let names = columns.iter().filter_map(|name| name.0.last()?.as_ident());
            asked.0.extend(names.map(|name| (None, normal(name))));
        }
    }
}

/// Columns that windows and ordered aggregates go by.
struct InOrders<'a>(&'a mut Names);

impl Visitor for InOrders<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(Function { over, args, within_group, filter, .. }) = expr {
            let _ = over.visit(self.0);
            let _ = within_group.visit(self.0);
            let _ = filter.visit(self.0);
            if let FunctionArguments::List(list) = args {
                let _ = list.clauses.visit(self.0);
            }
        }
        ControlFlow::Continue(())
    }
}

/// Whether a query makes nothing but ids, each of them once.
pub fn is_list_of_ids(select: &Select) -> bool {
    // by more than what is kept, an id comes several times
    let kept = 1..=select.projection.len();
    let is_grouped = matches!(&select.group_by, GroupByExpr::Expressions(by, _) if kept.contains(&by.len()));
    let is_id = |name: &Ident| IDS.contains(&normal(name).as_str());
    let is_column_of_ids = |item: &SelectItem| {
        let (expr, alias) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias)),
            _ => return false,
        };
        let column = match expr {
            Expr::Identifier(name) => Some(name),
            Expr::CompoundIdentifier(parts) => parts.last(),
            _ => None,
        };
        column.is_some_and(|column| is_id(alias.unwrap_or(column)))
    };
    (select.distinct.is_some() || is_grouped) && select.projection.iter().all(is_column_of_ids)
}
