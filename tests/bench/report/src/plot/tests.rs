use super::*;
use crate::panels::{Row, Rule, Series};

fn styles() -> Styles {
    Styles::of(&["direct".into(), "vetch".into(), "<b>".into()])
}

fn summary(values: &[f64]) -> Summary {
    Summary::of(values).unwrap()
}

fn panel(body: Body) -> Panel {
    Panel {
        title: "one node".into(),
        unit: "requests/s".into(),
        better: Better::Higher,
        is_ratio: false,
        rules: Vec::new(),
        body,
    }
}

#[test]
fn a_line_has_a_mark_and_a_spread_a_point() {
    let series = ["direct", "vetch", "<b>"].map(|subject| Series {
        subject: subject.into(),
        points: vec![
            (1.0, summary(&[10.0, 11.0, 12.0])),
            (1000.0, summary(&[9.0])),
        ],
    });
    let drawn = draw(
        &panel(Body::Lines {
            axis: "services".into(),
            series: series.into(),
        }),
        "Rate",
        &styles(),
    )
    .into_string();
    assert_eq!(drawn.matches("class=\"point\"").count(), 6);
    assert_eq!(drawn.matches("class=\"spread\"").count(), 6);
    assert_eq!(drawn.matches("class=\"line\"").count(), 3);
    assert!(drawn.contains("services (log)"), "{drawn}");
    assert!(drawn.contains("vetch, 1,000 services: 9.00 requests/s, n = 1"));
    assert!(!drawn.contains("<b>") && drawn.contains("&lt;b&gt;"));
    assert!(!drawn.contains("NaN"));
}

#[test]
fn rows_show_every_sample() {
    let rows = vec![Row {
        label: "a very long name that no plot of this width has room for".into(),
        subject: "vetch".into(),
        summary: summary(&[1.0, 2.0, 4.0]),
        samples: vec![1.0, 2.0, 4.0],
    }];
    let mut panel = panel(Body::Rows(rows));
    panel.is_ratio = true;
    panel.rules = vec![
        Rule {
            at: 1.0,
            label: "direct".into(),
        },
        Rule {
            at: 1.15,
            label: "aim 1.15".into(),
        },
    ];
    let drawn = draw(&panel, "Ratio", &styles()).into_string();
    assert_eq!(drawn.matches("class=\"sample\"").count(), 3);
    assert_eq!(drawn.matches("class=\"rule\"").count(), 2);
    assert!(
        drawn.contains("direct | aim 1.15"),
        "close rules share a name: {drawn}"
    );
    assert!(drawn.contains('…'));
}

#[test]
fn known_subjects_look_the_same_everywhere_and_none_like_another() {
    let names: Vec<String> = ["vetch", "x", "y", "z", "direct"].map(String::from).into();
    let all = Styles::of(&names);
    assert_eq!(all.get("vetch"), styles().get("vetch"));
    for (index, one) in names.iter().enumerate() {
        for other in &names[index + 1..] {
            assert_ne!(all.get(one), all.get(other), "{one} {other}");
        }
    }
}
