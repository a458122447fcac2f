//! From `report.json` to a page, verdicts and a comparison.
