use super::*;

fn lines(labels: &[&str], values: &[f64]) -> String {
    let series = Series::new("two towers", Look::Ours, values.iter().map(|value| Some(*value)));
    Lines {
        chart: Chart::new("loss", "Loss", "lower is better"),
        x_name: "epoch".into(),
        y_name: "loss".into(),
        labels: labels.iter().map(|label| label.to_string()).collect(),
        series: vec![series],
        from_zero: false,
        shares: false,
    }
    .html()
}

fn count(of: &str, html: &str) -> usize {
    html.matches(of).count()
}

#[test]
fn a_chart_draws_its_points_and_tells_them_in_words_and_numbers() {
    let html = lines(&["1", "2", "3"], &[2.0, 1.5, 1.0]);
    assert_eq!(count("class=\"mark dot ours\"", &html), 3);
    assert!(html.contains("first 2 at 1, last 1 at 3; lowest 1 at 3, highest 2 at 1"), "{html}");
    assert!(html.contains("<td>1.5000</td>"), "{html}");
    assert!(html.contains("aria-describedby=\"loss-text\"") && html.contains("<desc id=\"loss-text\">"));
}

#[test]
fn a_value_that_is_no_number_leaves_a_gap_and_a_single_point_is_drawn() {
    let html = lines(&["1", "2", "3", "4", "5"], &[2.0, f64::NAN, 1.0, 0.5, f64::INFINITY]);
    assert_eq!(count("class=\"mark dot ours\"", &html), 3);
    assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
    let line = html.split("class=\"line ours\" d=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!((count("M", line), count("L", line)), (2, 1), "{line}");
    assert_eq!(count("class=\"mark dot ours\"", &lines(&["1"], &[0.3])), 1);
}

#[test]
fn without_any_value_a_sentence_stands_in_the_place_of_the_drawing() {
    for html in [lines(&[], &[]), lines(&["1"], &[f64::NAN])] {
        assert!(html.contains("no value was measured") && !html.contains("<svg"), "{html}");
    }
    let empty = Cloud { chart: Chart::new("c", "", ""), x_name: "".into(), y_name: "".into(), parts: vec![] };
    assert!(!empty.html().contains("<svg"));
}

#[test]
fn labels_that_would_touch_are_left_out_and_the_newest_stays() {
    let labels: Vec<String> = (1..=30).map(|at| format!("release {at}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let html = lines(&labels, &[0.5; 30]);
    let shown = (1..=30).filter(|at| html.contains(&format!(">release {at}</text>"))).count();
    assert!((2..=6).contains(&shown) && html.contains(">release 30</text>"), "{shown}");
}

#[test]
fn bars_stand_on_zero_and_go_down_where_values_are_negative() {
    let series =
        [Series::new("a", Look::Ours, [Some(4.0), Some(-2.0)]), Series::new("b", Look::Popularity, [Some(0.0), None])];
    let html = Bars {
        chart: Chart::new("bars", "Bars", ""),
        x_name: "x".into(),
        y_name: "y".into(),
        labels: vec!["<one>".into(), "two".into()],
        series: series.to_vec(),
    }
    .html();
    assert_eq!(count("<rect class=\"mark bar", &html), 3);
    assert!(html.contains("&lt;one&gt;") && !html.contains("<one>"), "text from logs cannot become markup");
    assert_eq!(count("<li>", &html), 2, "two series have a legend");
}

#[test]
fn a_chosen_point_has_its_name_beside_it() {
    let point = |name: &str, x, chosen| Point { name: name.into(), x, y: 0.9, chosen };
    let html = Points {
        chart: Chart::new("search", "Search", ""),
        x_name: "milliseconds".into(),
        y_name: "recall".into(),
        series: vec![("index".into(), Look::Index, vec![point("ef=16", 0.1, false), point("ef=32", 0.2, true)])],
    }
    .html();
    assert!(html.contains(">ef=32</text>") && !html.contains(">ef=16</text>"), "{html}");
}
