//! What a field of a reading is: its name, type and range. One declaration serves the table's
//! column, the JSON key, the point's field, the range check and the digest.

/// The numbers of an enum and the words for them.
#[derive(Debug, PartialEq, Eq)]
pub struct EnumTable {
    /// The enum's name, for messages.
    pub name: &'static str,
    /// Number on the wire and word, by number. Zero (UNSPECIFIED) is not in it: it is *absent*.
    pub values: &'static [(i32, &'static str)],
}

impl EnumTable {
    /// The word for a number this build knows.
    #[must_use]
    pub fn word(&self, number: i32) -> Option<&'static str> {
        self.values.iter().find(|(n, _)| *n == number).map(|(_, word)| *word)
    }

    /// The number of a word; a decimal number stands for itself, as unknown values are written.
    #[must_use]
    pub fn number(&self, text: &str) -> Option<i32> {
        let known = self.values.iter().find(|(_, word)| *word == text).map(|(n, _)| *n);
        known.or_else(|| text.parse().ok())
    }

    /// Appends the word for a number, or the number itself where this build has no word.
    pub fn write(&self, number: i32, out: &mut String) {
        match self.word(number) {
            Some(word) => out.push_str(word),
            None => out.push_str(&number.to_string()),
        }
    }
}

/// How a field's values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A whole number, `i64`.
    Int,
    /// A number with a fraction, `f64`.
    Float,
    /// Yes or no.
    Bool,
    /// One of an enum; kept as its word, an unknown value as its number in decimal.
    Enum(&'static EnumTable),
    /// Several of an enum; kept as their words joined by commas.
    EnumList(&'static EnumTable),
    /// Several whole numbers, `i32`.
    IntList,
}

/// A closed range of values, in the field's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Smallest value inside.
    pub low: f64,
    /// Greatest value inside.
    pub high: f64,
}

/// One field of a kind.
#[derive(Debug, PartialEq)]
pub struct Field {
    /// Its name, unit included: column, JSON key and point field alike.
    pub name: &'static str,
    /// How values are kept.
    pub ty: FieldType,
    /// Outside of this the value is impossible: quality 1.
    pub hard: Option<Range>,
    /// Outside of this the value is suspicious: quality 3.
    pub plausible: Option<Range>,
    /// Whether it only ever counts up, and its modulus if it has one.
    pub counter: Option<Counter>,
}

/// A value that only counts up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Where it starts again from zero, if that is known.
    pub modulus: Option<i64>,
}

/// One value of a reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Of [`FieldType::Int`].
    Int(i64),
    /// Of [`FieldType::Float`]; never NaN or infinite.
    Float(f64),
    /// Of [`FieldType::Bool`].
    Bool(bool),
    /// Of [`FieldType::Enum`], by number.
    Enum(i32),
    /// Of [`FieldType::EnumList`], by number, sorted, each once; never empty.
    EnumList(&'a [i32]),
    /// Of [`FieldType::IntList`]; never empty.
    IntList(&'a [i32]),
}

impl Value<'_> {
    /// The value as a number, where it is one.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // for range checks; ranges end far below 2^53
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Int(v) => Some(*v as f64),
            Self::Float(v) => Some(*v),
            _ => None,
        }
    }
}

/// A value of the wrong type was given for a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value does not fit the type of field {field}")]
pub struct WrongType {
    /// The field's name.
    pub field: &'static str,
}

/// Declares a struct of optional fields together with its field table and access by position.
macro_rules! fields {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$fdoc:meta])* $field:ident : $ty:ident $(($table:expr))?
            $(, hard $hlow:literal ..= $hhigh:literal)?
            $(, plausible $plow:literal ..= $phigh:literal)?
            $(, counter $modulus:expr)? ;)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: $crate::field::fields!(@rust $ty),)+
        }

        impl $name {
            /// The fields, in the order of their positions. New ones are added at the end.
            pub const FIELDS: &'static [$crate::field::Field] = &[$(
                $crate::field::Field {
                    name: stringify!($field),
                    ty: $crate::field::fields!(@type $ty $(($table))?),
                    hard: $crate::field::fields!(@range $($hlow, $hhigh)?),
                    plausible: $crate::field::fields!(@range $($plow, $phigh)?),
                    counter: $crate::field::fields!(@counter $($modulus)?),
                },
            )+];

            /// The value at a position of [`Self::FIELDS`]; `None` where it is absent.
            #[must_use]
            pub fn value(&self, position: usize) -> Option<$crate::field::Value<'_>> {
                let mut at = 0;
                $(
                    if position == at {
                        return $crate::field::fields!(@get $ty, self.$field);
                    }
                    at += 1;
                )+
                let _past_the_end = at;
                None
            }

            /// Calls `each` with every present field, its position and its value, in the order
            /// of their positions.
            #[inline]
            pub fn visit(
                &self,
                mut each: impl FnMut(usize, &'static $crate::field::Field, $crate::field::Value<'_>),
            ) {
                let mut fields = Self::FIELDS.iter().enumerate();
                $(
                    if let (Some((at, field)), Some(value)) =
                        (fields.next(), $crate::field::fields!(@get $ty, self.$field))
                    {
                        each(at, field, value);
                    }
                )+
            }

            /// Sets the value at a position of [`Self::FIELDS`]; positions past the end are ignored.
            ///
            /// # Errors
            /// When the value is of another type than the field.
            pub fn set(
                &mut self,
                position: usize,
                value: $crate::field::Value<'_>,
            ) -> Result<(), $crate::field::WrongType> {
                let mut at = 0;
                $(
                    if position == at {
                        $crate::field::fields!(@set $ty, self.$field, value, stringify!($field));
                        return Ok(());
                    }
                    at += 1;
                )+
                let _past_the_end = at;
                Ok(())
            }
        }
    };

    (@rust int) => { Option<i64> };
    (@rust float) => { Option<f64> };
    (@rust bool) => { Option<bool> };
    (@rust one) => { Option<i32> };
    (@rust many) => { Vec<i32> };
    (@rust ints) => { Vec<i32> };

    (@type int) => { $crate::field::FieldType::Int };
    (@type float) => { $crate::field::FieldType::Float };
    (@type bool) => { $crate::field::FieldType::Bool };
    (@type one ($table:expr)) => { $crate::field::FieldType::Enum(&$table) };
    (@type many ($table:expr)) => { $crate::field::FieldType::EnumList(&$table) };
    (@type ints) => { $crate::field::FieldType::IntList };

    (@range $low:literal, $high:literal) => {
        Some($crate::field::Range { low: $low as f64, high: $high as f64 })
    };
    (@range) => { None };
    (@counter $modulus:expr) => { Some($crate::field::Counter { modulus: $modulus }) };
    (@counter) => { None };

    (@get int, $e:expr) => { $e.map($crate::field::Value::Int) };
    (@get float, $e:expr) => { $e.map($crate::field::Value::Float) };
    (@get bool, $e:expr) => { $e.map($crate::field::Value::Bool) };
    (@get one, $e:expr) => { $e.map($crate::field::Value::Enum) };
    (@get many, $e:expr) => { (!$e.is_empty()).then_some($crate::field::Value::EnumList(&$e)) };
    (@get ints, $e:expr) => { (!$e.is_empty()).then_some($crate::field::Value::IntList(&$e)) };

    (@set int, $e:expr, $v:expr, $n:expr) => { $crate::field::fields!(@put Int, $e, $v, $n) };
    (@set float, $e:expr, $v:expr, $n:expr) => { $crate::field::fields!(@put Float, $e, $v, $n) };
    (@set bool, $e:expr, $v:expr, $n:expr) => { $crate::field::fields!(@put Bool, $e, $v, $n) };
    (@set one, $e:expr, $v:expr, $n:expr) => { $crate::field::fields!(@put Enum, $e, $v, $n) };
    (@set many, $e:expr, $v:expr, $n:expr) => { $crate::field::fields!(@list EnumList, $e, $v, $n) };
    (@set ints, $e:expr, $v:expr, $n:expr) => { $crate::field::fields!(@list IntList, $e, $v, $n) };
    (@put $variant:ident, $e:expr, $v:expr, $n:expr) => {
        match $v {
            $crate::field::Value::$variant(v) => $e = Some(v),
            _ => return Err($crate::field::WrongType { field: $n }),
        }
    };
    (@list $variant:ident, $e:expr, $v:expr, $n:expr) => {
        match $v {
            $crate::field::Value::$variant(v) => $e = v.to_vec(),
            _ => return Err($crate::field::WrongType { field: $n }),
        }
    };
}
pub(crate) use fields;
