//! Tables that line up, by the rule of Docker's own: a column is as wide as its longest cell and
//! three more, ten at least, and the last one is as long as it is.

/// Cells in columns under headings.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table that has headings only.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as lines.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
                (longest + 3).max(10)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            if let Some((last, others)) = row.split_last() {
                for (cell, width) in others.iter().zip(&widths) {
                    text.push_str(&format!("{cell:width$}"));
                }
                text.push_str(last);
            }
            text.push('\n');
        }
        text
    }
}

/// Several values in one cell; a dash where there are none, so that every cell is one word.
pub(crate) fn cell<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded_as_docker_pads_them() {
        let mut table = Table::new(&["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
        assert_eq!(table.text(), "NETWORK ID   NAME      DRIVER    SCOPE\n");
        table.row(["0123456789ab", "bridge", "bridge", "local"].map(String::from));
        assert_eq!(
            table.text(),
            "NETWORK ID     NAME      DRIVER    SCOPE\n\
             0123456789ab   bridge    bridge    local\n"
        );
        table.row(["c", "a-long-name", "x", ""].map(String::from));
        assert_eq!(table.text().lines().last(), Some("c              a-long-name   x         "));
    }

    #[test]
    fn an_empty_cell_is_a_dash() {
        assert_eq!(cell::<String>([]), "-");
        assert_eq!(cell([1, 2]), "1,2");
    }
}
