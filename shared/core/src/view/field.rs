//! The columns of an entity, with and without its type.

use serde_json::Value;

use super::column::{Column, Unit};

/// A column of one entity, with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// See [`Column::name`].
    pub name: &'static str,
    /// See [`Column::unit`].
    pub unit: Unit,
    /// See [`Column::value`].
    pub value: Value,
}

/// What is shown of a type of state.
pub trait Columns: Sized + 'static {
    /// The columns, in the order of exports.
    const COLUMNS: &'static [Column<Self>];

    /// What JSON contains in addition to the columns.
    fn details(&self) -> Value;

    /// Whether exports have a row of it: not of an object that events only mentioned.
    fn has_row(&self) -> bool;
}

/// [`Columns`] without knowing the type.
pub trait Fields {
    /// Every column with its value.
    fn fields(&self) -> Vec<Field>;

    /// See [`Columns::details`].
    fn details(&self) -> Value;

    /// See [`Columns::has_row`].
    fn has_row(&self) -> bool;
}

impl<T: Columns> Fields for T {
    fn fields(&self) -> Vec<Field> {
        let field = |column: &Column<T>| Field {
            name: column.name,
            unit: column.unit,
            value: (column.value)(self),
        };
        T::COLUMNS.iter().map(field).collect()
    }

    fn details(&self) -> Value {
        Columns::details(self)
    }

    fn has_row(&self) -> bool {
        Columns::has_row(self)
    }
}
