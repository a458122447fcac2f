//! A subject's colour and shape. The shape tells it too, for who does not tell the colours apart.

use maud::{Markup, html};

/// Colours of the style sheet: c0, c1, …
const COLOURS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub colour: usize,
    pub shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Circle,
    Square,
    Up,
    Down,
    Diamond,
    Cross,
    Ring,
    Frame,
}

const SHAPES: [Shape; COLOURS] = [
    Shape::Square,
    Shape::Circle,
    Shape::Up,
    Shape::Diamond,
    Shape::Down,
    Shape::Cross,
    Shape::Ring,
    Shape::Frame,
];

/// The style of every subject of a report.
#[derive(Clone, Debug)]
pub struct Styles(Vec<(String, Style)>);

impl Styles {
    /// Known subjects look the same in every report; others take what is left.
    pub fn of(subjects: &[String]) -> Styles {
        let known = [
            "direct",
            "vetch",
            "iptables",
            "nftables",
            "kube-proxy-iptables",
            "kube-proxy-nftables",
        ];
        let mut left = known.len();
        let style = |subject: &String| {
            let slot = known
                .iter()
                .position(|name| name == subject)
                .unwrap_or_else(|| {
                    left += 1;
                    left - 1
                });
            // Past the last colour the shapes go on one step aside: no pair comes twice for long.
            let style = Style {
                colour: slot % COLOURS,
                shape: SHAPES[(slot + slot / COLOURS) % COLOURS],
            };
            (subject.clone(), style)
        };
        Styles(subjects.iter().map(style).collect())
    }

    pub fn get(&self, subject: &str) -> Style {
        let found = self.0.iter().find(|(name, _)| name == subject);
        found.map_or(
            Style {
                colour: 0,
                shape: Shape::Square,
            },
            |found| found.1,
        )
    }
}

impl Style {
    pub fn class(self) -> String {
        format!("c{}", self.colour)
    }

    /// The mark, with its middle at this place.
    pub fn mark(self, x: f64, y: f64) -> Markup {
        let class = match self.shape {
            Shape::Ring | Shape::Frame => "mark hollow",
            _ => "mark",
        };
        html! { path class=(class) d=(self.shape.outline(x, y)) {} }
    }
}

impl Shape {
    /// Of about the same area each.
    fn outline(self, x: f64, y: f64) -> String {
        let corners = |corners: &[(f64, f64)]| {
            let place = |(dx, dy): &(f64, f64)| format!("{:.1} {:.1}", x + dx, y + dy);
            let places: Vec<_> = corners.iter().map(place).collect();
            format!("M{}Z", places.join("L"))
        };
        match self {
            Shape::Circle | Shape::Ring => {
                let r = 4.2;
                format!(
                    "M{:.1} {y:.1}a{r} {r} 0 1 0 {d:.1} 0a{r} {r} 0 1 0 -{d:.1} 0Z",
                    x - r,
                    d = 2.0 * r
                )
            }
            Shape::Square | Shape::Frame => {
                corners(&[(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)])
            }
            Shape::Up => corners(&[(0.0, -5.0), (5.0, 3.8), (-5.0, 3.8)]),
            Shape::Down => corners(&[(0.0, 5.0), (5.0, -3.8), (-5.0, -3.8)]),
            Shape::Diamond => corners(&[(0.0, -5.4), (5.4, 0.0), (0.0, 5.4), (-5.4, 0.0)]),
            Shape::Cross => corners(&[
                (-1.5, -5.0),
                (1.5, -5.0),
                (1.5, -1.5),
                (5.0, -1.5),
                (5.0, 1.5),
                (1.5, 1.5),
                (1.5, 5.0),
                (-1.5, 5.0),
                (-1.5, 1.5),
                (-5.0, 1.5),
                (-5.0, -1.5),
                (-1.5, -1.5),
            ]),
        }
    }
}

/// For a legend, beside the name.
pub fn legend_mark(style: Style, with_line: bool) -> Markup {
    let width = if with_line { 24.0 } else { 14.0 };
    html! {
        svg.key viewBox=(format!("0 0 {width} 14")) width=(width) height="14" aria-hidden="true" {
            g class=(style.class()) {
                @if with_line { path.line d="M1 7H23" {} }
                (style.mark(width / 2.0, 7.0))
            }
        }
    }
}
