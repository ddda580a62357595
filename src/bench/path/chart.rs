//! Series as lines of blocks, for a terminal.

use sekisho_bench::path::plot::Series;

const COLUMNS: usize = 64;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A row for each series, from nothing to its most.
pub(super) fn chart(all: &[Series]) -> String {
    let last = all.iter().flat_map(|one| &one.points).map(|(at, _)| *at);
    let end = last.fold(0.0, f64::max);
    let mut text = format!("\nover {end:.1} s, each row from 0 to its most\n");
    for one in all {
        let most = one
            .points
            .iter()
            .map(|(_, value)| *value)
            .fold(0.0, f64::max);
        let bar: String = columns(&one.points, end)
            .into_iter()
            .map(|value| value.map_or(' ', |value| block(value, most)))
            .collect();
        text.push_str(&format!(
            "{bar:<COLUMNS$}  {}, at most {most:.1} {}\n",
            one.name, one.unit
        ));
    }
    text.trim_end().to_owned()
}

/// The mean of what falls into each column; `None` where nothing does.
fn columns(points: &[(f64, f64)], end: f64) -> Vec<Option<f64>> {
    let mut sums = vec![(0.0, 0_u32); COLUMNS];
    for (at, value) in points {
        let part = (at / end.max(1e-9)).clamp(0.0, 1.0);
        if let Some((sum, count)) = sums.get_mut(step(part, COLUMNS)) {
            *sum += value;
            *count += 1;
        }
    }
    let means = sums.into_iter();
    means
        .map(|(sum, count)| (count > 0).then(|| sum / f64::from(count)))
        .collect()
}

fn block(value: f64, most: f64) -> char {
    let part = if most > 0.0 { value / most } else { 0.0 };
    BLOCKS.get(step(part, BLOCKS.len())).copied().unwrap_or(' ')
}

/// Which of so many equal steps from 0 to 1.
fn step(part: f64, steps: usize) -> usize {
    (1..steps)
        .take_while(|one| part >= *one as f64 / steps as f64)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_rises_with_its_series() {
        let one = Series {
            name: "rate",
            unit: "Mb/s",
            points: (0..200_u32)
                .map(|at| (f64::from(at), f64::from(at)))
                .collect(),
        };
        let text = chart(&[one]);
        let row = text.lines().nth(2).unwrap();
        assert!(row.starts_with('▁') && row.contains('█'), "{row}");
        assert!(row.ends_with("rate, at most 199.0 Mb/s"), "{row}");
        assert_eq!(
            row.chars().take_while(|one| BLOCKS.contains(one)).count(),
            COLUMNS
        );
        // One moment only, and nothing at all.
        let one = Series {
            name: "rate",
            unit: "Mb/s",
            points: vec![(0.0, 0.0)],
        };
        assert!(chart(&[one]).contains('▁'));
        assert!(!chart(&[]).contains("NaN"));
    }
}
