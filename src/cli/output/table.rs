//! Tables for people.

use super::style::{Style, Tone, fit, visible_line, width};

/// A table: a head and rows of cells.
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<(Tone, String)>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(head: &[&'static str]) -> Self {
        Table {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Cells are one line each, whatever was in them.
    pub fn row(&mut self, cells: impl IntoIterator<Item = (Tone, String)>) {
        self.rows.push(
            cells
                .into_iter()
                .map(|(tone, text)| (tone, visible_line(&text)))
                .collect(),
        );
    }

    /// The table as text. With `columns` above 0 the last column is cut to fit.
    pub fn render(&self, style: Style, columns: usize) -> String {
        let mut widths: Vec<usize> = self.head.iter().map(|head| width(head)).collect();
        for row in &self.rows {
            for (at, (_, cell)) in row.iter().enumerate() {
                if let Some(widest) = widths.get_mut(at) {
                    *widest = (*widest).max(width(cell));
                }
            }
        }
        let last = widths.len().saturating_sub(1);
        if columns > 0 {
            let before: usize = widths[..last].iter().map(|width| width + 2).sum();
            if let Some(widest) = widths.get_mut(last) {
                *widest = (*widest).min(columns.saturating_sub(before).max(10));
            }
        }
        let line = |cells: Vec<(Tone, &str)>| {
            let mut line = String::new();
            for (at, (tone, cell)) in cells.into_iter().enumerate() {
                let room = widths.get(at).copied().unwrap_or_default();
                let cell = fit(cell, room);
                line.push_str(&style.paint(tone, &cell));
                if at < last {
                    line.push_str(&" ".repeat(room - width(&cell) + 2));
                }
            }
            line.trim_end().to_owned()
        };
        let mut lines = vec![line(self.head.iter().map(|h| (Tone::Dim, *h)).collect())];
        for row in &self.rows {
            lines.push(line(row.iter().map(|(t, c)| (*t, c.as_str())).collect()));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_the_last_is_cut() {
        let mut table = Table::new(&["ID", "TITLE", "CWD"]);
        table.row([
            (Tone::Name, "A".to_owned()),
            (Tone::Plain, "日本".to_owned()),
            (Tone::Plain, "/srv/a-long-directory".to_owned()),
        ]);
        table.row([
            (Tone::Name, "BBB".to_owned()),
            (Tone::Plain, "x\ny".to_owned()),
            (Tone::Plain, "/".to_owned()),
        ]);
        let plain = Style::new(false);
        assert_eq!(
            table.render(plain, 23),
            "ID   TITLE  CWD\nA    日本   /srv/a-lon…\nBBB  x⏎y    /"
        );
        assert!(table.render(plain, 0).contains("/srv/a-long-directory"));
    }
}
