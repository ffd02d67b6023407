//! The plot in bench/: what is wanted, what Underlay costs, and what others do,
//! on logarithmic scales. Each bar names itself, so that no colour has to be
//! known; the text follows the reader's light or dark page.

use svg::Document;
use svg::node::element::{Group, Line, Rectangle, Style, Text, Title};

use crate::bench::cost::Cost;
use crate::bench::operation::{Kind, OPERATIONS, OTHERS, Operation, thousands};
use crate::machine::Machine;

const STYLE: &str = "
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.head { font-weight: 600; font-size: 14px; }
.scale { stroke: #8c959f; stroke-opacity: 0.35; }
.wanted { stroke: #1f2328; stroke-width: 2; }
.underlay { fill: #e8590c; }
.other { fill: #748cab; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .wanted { stroke: #e6edf3; }
}
";

const WIDTH: f64 = 820.0;
/// Where bars begin.
const LEFT: f64 = 100.0;
/// How wide a scale is.
const SCALE: f64 = 560.0;
const BAR: f64 = 12.0;
const STEP: f64 = 15.0;
const GAP: f64 = 9.0;
const HEAD: f64 = 40.0;

/// One scale, and what stands on it.
struct Panel {
    title: &'static str,
    machine: Machine,
    kind: Kind,
    /// What is taken off each figure.
    from: u64,
    /// The powers of ten at its ends.
    ends: [i32; 2],
    /// What one of a figure is on the scale.
    unit: f64,
    /// Behind the numbers of the scale.
    suffix: &'static str,
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "VT-x in Bochs: ticks for one",
        machine: Machine::Vtx,
        kind: Kind::Single,
        from: 0,
        ends: [1, 8],
        unit: 1.0,
        suffix: "",
    },
    Panel {
        title: "AMD-V in QEMU: ticks for one",
        machine: Machine::Svm,
        kind: Kind::Single,
        from: 0,
        ends: [1, 8],
        unit: 1.0,
        suffix: "",
    },
    Panel {
        title: "Boot of Linux, VT-x: more ticks than natively, per cent",
        machine: Machine::Vtx,
        kind: Kind::Boot,
        from: 1_000_000,
        ends: [-2, 1],
        unit: 1e-4,
        suffix: " %",
    },
    Panel {
        title: "Memory taken, VT-x: MiB of 1024",
        machine: Machine::Vtx,
        kind: Kind::Memory,
        from: 0,
        ends: [0, 3],
        unit: 1.0 / 1_048_576.0,
        suffix: "",
    },
];

/// The picture.
pub fn text(costs: &[Cost]) -> String {
    let mut y = 0.0;
    let mut all = Group::new();
    for panel in &PANELS {
        all = all.add(panel.draw(&mut y, costs));
    }
    let note = "Shorter is better; each step of a scale is ten times as much. \
                The stroke across Underlay's bar is what is wanted at most.";
    y += 24.0;
    let document = Document::new()
        .set("viewBox", (0, 0, WIDTH, y + 16.0))
        .set("role", "img")
        .add(Title::new("What exits, calls, a boot and memory cost"))
        .add(Style::new(STYLE))
        .add(all)
        .add(label(note, 8.0, y, ""));
    format!("{document}\n")
}

impl Panel {
    fn draw(&self, y: &mut f64, costs: &[Cost]) -> Group {
        let top = *y + HEAD;
        let mut bars = Group::new();
        *y = top;
        for row in OPERATIONS.iter().filter(|row| self.shows(row)) {
            bars = bars.add(self.operation(row, y, costs));
        }
        let title = label(self.title, 8.0, top - 18.0, "head");
        Group::new().add(title).add(self.scale(top, *y)).add(bars)
    }

    fn shows(&self, row: &Operation) -> bool {
        row.kind == self.kind && row.wanted.is_some()
    }

    /// A line for each power of ten.
    fn scale(&self, top: f64, bottom: f64) -> Group {
        let mut group = Group::new();
        for power in self.ends[0]..=self.ends[1] {
            let x = self.at(10_f64.powi(power));
            let number = match power {
                ..0 => format!("{:.*}", power.unsigned_abs() as usize, 10_f64.powi(power)),
                0..6 => thousands(10_u64.pow(power.unsigned_abs())),
                _ => format!("{} million", 10_u64.pow(power.unsigned_abs() - 6)),
            };
            let number = label(&(number + self.suffix), x, top - 4.0, "");
            group = group
                .add(line(x, top, bottom, "scale"))
                .add(number.set("text-anchor", "middle"));
        }
        group
    }

    /// The bars of one operation, and what is wanted of the last.
    fn operation(&self, row: &Operation, y: &mut f64, costs: &[Cost]) -> Group {
        *y += GAP;
        let mut group = Group::new().add(label(row.name, 8.0, *y + BAR - 1.0, ""));
        let others = OTHERS.into_iter().zip(row.elsewhere(self.machine));
        for (name, figure) in others {
            // What costs nothing has no place on such a scale.
            if let Some(figure) = figure.filter(|figure| *figure > self.from) {
                let text = format!("{name} {}", row.shown(figure));
                group = group.add(self.bar("other", *y, figure, None, &text));
                *y += STEP;
            }
        }
        let cost = costs.iter();
        let mut cost = cost.filter(|c| c.machine == self.machine.name() && c.operation == row.name);
        if let Some(cost) = cost.next() {
            let figure = row.figure(cost);
            let text = format!("Underlay {}", row.shown(figure));
            group = group.add(self.bar("underlay", *y, figure, row.wanted, &text));
            *y += STEP;
        }
        group
    }

    fn bar(&self, class: &str, y: f64, figure: u64, wanted: Option<u64>, text: &str) -> Group {
        let end = self.place(figure);
        let bar = Rectangle::new()
            .set("class", class)
            .set("x", LEFT)
            .set("y", y)
            .set("width", rounded(end - LEFT))
            .set("height", BAR);
        let mut group = Group::new().add(bar);
        let mut behind = end;
        if let Some(x) = wanted.map(|most| self.place(most)) {
            group = group.add(line(x, y - 3.0, y + BAR + 3.0, "wanted"));
            behind = end.max(x);
        }
        group.add(label(text, behind + 5.0, y + BAR - 2.0, ""))
    }

    /// Where the bar of `figure` ends.
    fn place(&self, figure: u64) -> f64 {
        self.at((figure.saturating_sub(self.from)) as f64 * self.unit)
    }

    fn at(&self, value: f64) -> f64 {
        let [first, last] = self.ends.map(f64::from);
        let share = (value.log10() - first) / (last - first);
        LEFT + SCALE * share.clamp(0.0, 1.0)
    }
}

/// As exact as can be seen, and the same on every computer.
fn rounded(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

fn label(text: &str, x: f64, y: f64, class: &str) -> Text {
    let text = Text::new(text).set("x", rounded(x)).set("y", rounded(y));
    if class.is_empty() {
        text
    } else {
        text.set("class", class)
    }
}

fn line(x: f64, from: f64, to: f64, class: &str) -> Line {
    Line::new()
        .set("class", class)
        .set("x1", rounded(x))
        .set("x2", rounded(x))
        .set("y1", from)
        .set("y2", to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_compared_is_in_the_picture() {
        let costs = ["vtx", "svm"].map(|machine| Cost {
            machine: machine.to_owned(),
            operation: "ping".to_owned(),
            min: 77,
            median: 77,
            native: None,
            unit: "ticks".to_owned(),
        });
        let text = text(&costs);
        assert_eq!(text, super::text(&costs), "the same each time");
        for words in [
            "Underlay 77",
            "KVM 6.1 3,327",
            "BitVisor 16,000,000",
            "BitVisor 128 MiB",
        ] {
            assert!(text.contains(words), "{words}");
        }
    }
}
