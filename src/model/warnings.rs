//! Data quality warnings that Tableau shows on published data sources, and on what is made of them.

use super::ids::WarningId;

/// The type of those that say that data is old; what else there is, only people set.
pub const STALE: &str = "STALE";

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataQualityWarning {
    /// The warning.
    pub id: WarningId,
    /// Its type, such as [`STALE`].
    pub kind: String,
    /// What it says; people may change that.
    pub message: String,
}

impl DataQualityWarning {
    /// Whether it says that data is old, and in these words. How Tableau gives a text back is written nowhere: white space and escaped signs do not count.
    pub fn says(&self, text: &str) -> bool {
        self.kind == STALE && plain(&self.message) == plain(text)
    }

    /// The same, whatever single word stands between these two.
    pub fn says_between(&self, before: &str, after: &str) -> bool {
        let message = plain(&self.message);
        // Without the space at its end.
        let rest = message.strip_prefix(&plain(before)).and_then(|rest| rest.strip_prefix(' '));
        let word = rest.and_then(|rest| rest.strip_suffix(&plain(after)));
        self.kind == STALE && word.is_some_and(|word| !word.is_empty() && !word.contains([' ', '/']))
    }
}

/// The words, without what a server may make of a text that is shown in a browser.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, entity)) = rest.split_once('&') {
        plain.push_str(before);
        let unescaped = entity.split_once(';').and_then(|(name, after)| Some((sign(name)?, after)));
        let (sign, after) = unescaped.unwrap_or(('&', entity));
        plain.push(sign);
        rest = after;
    }
    plain.push_str(rest);
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The sign that an entity of HTML stands for; those that anybody escapes.
fn sign(name: &str) -> Option<char> {
    let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "sol" => '/',
        "colon" => ':',
        "lpar" => '(',
        "rpar" => ')',
        _ => {
            let digits = name.strip_prefix('#')?;
            match digits.strip_prefix(['x', 'X']) {
                Some(digits) => number(digits, 16)?,
                None => number(digits, 10)?,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_known_again_however_it_is_given_back_and_no_other_is() {
        let says = |kind: &str, message: &str| {
            let warning = DataQualityWarning { id: "1".into(), kind: kind.into(), message: message.into() };
            warning.says("It's old: as promised. (Feedwater prod/finance/orders)")
        };
        for same in [
            "It's old: as promised. (Feedwater prod/finance/orders)",
            "  It's old: as promised.  (Feedwater prod/finance/orders)\r\n",
            "It's old:\r\nas promised. (Feedwater prod/finance/orders)",
            "It&#39;s old&#58; as promised. &#40;Feedwater prod&#x2F;finance&#x2f;orders&#41;",
            "It&apos;s old&colon; as&nbsp;promised. &lpar;Feedwater prod&sol;finance&sol;orders&rpar;",
        ] {
            assert!(says(STALE, same), "{same}");
            assert!(!says("WARNING", same), "{same}");
        }
        for other in [
            "",
            "It's old: as promised. (Feedwater prod/finance/order)",
            "It's old: as promised. (Feedwater test/finance/orders)",
            "Known. It's old: as promised. (Feedwater prod/finance/orders)",
            "It&nosuch;s old: as promised. (Feedwater prod/finance/orders)",
            "It&#x110000;s old: as promised. (Feedwater prod/finance/orders)",
        ] {
            assert!(!says(STALE, other), "{other}");
        }
    }

    #[test]
    fn one_word_may_be_another() {
        let says = |message: &str| {
            let warning = DataQualityWarning { id: "1".into(), kind: STALE.into(), message: message.into() };
            warning.says_between("Old. (Feedwater ", "/finance/orders)")
        };
        assert!(
            says("Old. (Feedwater prod-a/finance/orders)")
                && says("Old. &#40;Feedwater prod-b&#x2F;finance/orders)")
        );
        for other in [
            "Old. (Feedwater /finance/orders)",
            "Old. (Feedwater a b/finance/orders)",
            "Old. (Feedwater a/finance/fx)",
            "Old.",
        ] {
            assert!(!says(other), "{other}");
        }
    }
}
