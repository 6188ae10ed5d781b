//! Patterns over names and over paths of names. One that is none matches nothing.

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGlob {
    /// A part between two slashes is empty.
    #[error("has an empty part: write it as `Finance/Sales`")]
    EmptyPart,
    /// `**` is only a part of a part.
    #[error("has `**` beside other letters: it stands for whole names, between slashes")]
    MixedStars,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Letter {
    /// Itself.
    Same(char),
    /// `*`: any letters, or none.
    Any,
}

/// A pattern over one name: `*` stands for any letters of it, or none; `\*` is a star, `\/` a slash, `\\` a backslash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<Letter>);

impl Glob {
    /// Reads a pattern: every text is one.
    pub fn new(text: &str) -> Self {
        let mut letters = text.chars().peekable();
        let mut all = Vec::new();
        while let Some(letter) = letters.next() {
            let escaped = letter == '\\' && matches!(letters.peek(), Some('*' | '/' | '\\'));
            all.push(match (escaped, letter) {
                (true, _) => Letter::Same(letters.next().unwrap_or(letter)),
                (false, '*') => Letter::Any,
                (false, letter) => Letter::Same(letter),
            });
        }
        Self(all)
    }

    /// Whether it stands for this name.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        walk(&self.0, &name, |letter| *letter == Letter::Any, |letter, other| *letter == Letter::Same(*other))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// One name.
    One(Glob),
    /// `**`: any names, or none.
    Any,
}

/// A pattern over a path: `*` within a name, `**` for any names, so that `Finance/**` stands for `Finance` too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathGlob(Vec<Part>);

impl PathGlob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<Self, BadGlob> {
        parts(text).iter().map(|text| part(text)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether it stands for this path.
    pub fn matches(&self, path: &[&str]) -> bool {
        let same = |part: &Part, name: &&str| matches!(part, Part::One(glob) if glob.matches(name));
        walk(&self.0, path, |part| *part == Part::Any, same)
    }

    /// Whether it stands for every path.
    pub fn is_everything(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|part| *part == Part::Any)
    }
}

/// What stands between slashes that are not escaped, escapes and all.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == '/' {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
            if letter == '\\' {
                part.extend(letters.next());
            }
        }
    }
    parts
}

fn part(text: &str) -> Result<Part, BadGlob> {
    if text.is_empty() {
        return Err(BadGlob::EmptyPart);
    }
    if text == "**" {
        return Ok(Part::Any);
    }
    let glob = Glob::new(text);
    if glob.0.windows(2).any(|two| two == [Letter::Any, Letter::Any]) {
        return Err(BadGlob::MixedStars);
    }
    Ok(Part::One(glob))
}

/// Whether a pattern covers all of these. The last wildcard takes one more whenever what follows it does not fit: as each of the others takes exactly
/// one, there is no need to ever go back further, and it takes no longer than both lengths multiplied.
fn walk<P, T>(pattern: &[P], of: &[T], wild: impl Fn(&P) -> bool, same: impl Fn(&P, &T) -> bool) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut last: Option<(usize, usize)> = None;
    while seen < of.len() {
        match pattern.get(at) {
            Some(one) if wild(one) => {
                last = Some((at, seen));
                at += 1;
            }
            Some(one) if same(one, &of[seen]) => {
                at += 1;
                seen += 1;
            }
            Some(_) | None => {
                let Some((star, taken)) = last else { return false };
                last = Some((star, taken + 1));
                at = star + 1;
                seen = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(wild)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name() {
        for (glob, name, same) in [
            ("orders", "orders", true),
            ("orders", "Orders", false),
            ("orders", "orders2", false),
            ("*", "", true),
            ("*", "any/thing", true),
            ("finance-*", "finance-", true),
            ("finance-*", "finance-fx", true),
            ("finance-*", "sales-finance-fx", false),
            ("*-fx", "a-fx-fx", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1c2b", false),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            (r"a\\*", r"a\b", true),
            (r"a\b", r"a\b", true),
            ("Übersicht*", "Übersicht 2026", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(Glob::new(glob).matches(name), same, "{glob} {name}");
        }
    }

    #[test]
    fn a_path() {
        for (glob, path, same) in [
            ("Finance", &["Finance"][..], true),
            ("Finance", &["Finance", "Sales"], false),
            ("Finance/*", &["Finance", "Sales"], true),
            ("Finance/*", &["Finance"], false),
            ("Finance/*", &["Finance", "Sales", "EU"], false),
            ("Finance/**", &["Finance"], true),
            ("Finance/**", &["Finance", "Sales", "EU"], true),
            ("Finance/**", &["Finance2"], false),
            ("Finance/**/EU", &["Finance", "EU"], true),
            ("Finance/**/EU", &["Finance", "Sales", "Old", "EU"], true),
            ("Finance/**/EU", &["Finance", "EU", "Old"], false),
            ("**", &["Anything", "at all"], true),
            (r"A\/B", &["A/B"], true),
            (r"A\/B", &["A", "B"], false),
            ("A/B", &["A/B"], false),
            ("*", &["A/B"], true),
            ("finance-*/*", &["finance-fx", "hourly"], true),
            ("finance-*/*", &["sales", "finance-x"], false),
        ] {
            assert_eq!(PathGlob::parse(glob).unwrap().matches(path), same, "{glob} {path:?}");
        }
        for (bad, why) in [
            ("", BadGlob::EmptyPart),
            ("/Finance", BadGlob::EmptyPart),
            ("Finance/", BadGlob::EmptyPart),
            ("a//b", BadGlob::EmptyPart),
            ("Fin**", BadGlob::MixedStars),
            ("***", BadGlob::MixedStars),
        ] {
            assert_eq!(PathGlob::parse(bad), Err(why), "{bad}");
        }
        for (glob, everything) in [("**", true), ("**/**", true), ("*/*", false), ("a/**", false)] {
            assert_eq!(PathGlob::parse(glob).unwrap().is_everything(), everything, "{glob}");
        }
    }

    /// As often as these make it go back: each star takes one more, again and again, and nothing ever fits.
    #[test]
    fn a_pattern_made_to_be_slow_takes_no_longer_than_both_lengths_multiplied() {
        for (glob, name, same) in [
            ("*a".repeat(126), "a".repeat(255), true),
            ("*a".repeat(126) + "b", "a".repeat(255), false),
            ("a*".repeat(126) + "b", "a".repeat(255), false),
            ("*".repeat(253), "a".repeat(255), true),
            ("*".repeat(252) + "b", "a".repeat(255), false),
            ("*aaaaaaaaab".repeat(23), "a".repeat(255), false),
            ("*ab".repeat(84) + "c", "ab".repeat(127), false),
        ] {
            let (glob, letters) = (Glob::new(&glob), name.chars().collect::<Vec<_>>());
            let steps = std::cell::Cell::new(0_usize);
            let wild = |letter: &Letter| {
                steps.set(steps.get() + 1);
                *letter == Letter::Any
            };
            let fits = walk(&glob.0, &letters, wild, |letter, other| *letter == Letter::Same(*other));
            assert_eq!(fits, same, "{glob:?} {name}");
            let most = (glob.0.len() + 1) * (letters.len() + 1);
            assert!(steps.get() <= most, "{} steps, more than {most}: {glob:?}", steps.get());
        }
        // Of paths, names are what is compared.
        let path = vec!["a"; 1024];
        for (glob, same) in [
            ("**/a/".repeat(400) + "b", false),
            ("**/".repeat(600) + "b", false),
            ("**/a/".repeat(400) + "**", true),
        ] {
            assert_eq!(PathGlob::parse(&glob).unwrap().matches(&path), same, "{glob}");
        }
    }

    /// The same, by trying everything.
    fn slowly(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => slowly(rest, name),
            (Some(('*', rest)), Some((_, left))) => slowly(rest, name) || slowly(pattern, left),
            (Some((one, rest)), Some((other, left))) => one == other && slowly(rest, left),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn a_name_is_matched_as_by_trying_everything(glob in "[ab*]{0,8}", name in "[ab]{0,10}") {
            let letters = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Glob::new(&glob).matches(&name), slowly(&letters(&glob), &letters(&name)));
        }

        #[test]
        fn a_name_with_its_letters_escaped_stands_for_itself_alone(name in r"[a*/\\]{1,6}", other in r"[a*/\\]{1,6}") {
            let escaped = name.replace('\\', r"\\").replace('*', r"\*").replace('/', r"\/");
            prop_assert!(Glob::new(&escaped).matches(&name));
            prop_assert_eq!(Glob::new(&escaped).matches(&other), name == other);
            let path = PathGlob::parse(&escaped).unwrap();
            prop_assert!(path.matches(&[&name]));
            prop_assert_eq!(path.matches(&[&other]), name == other);
        }
    }
}
