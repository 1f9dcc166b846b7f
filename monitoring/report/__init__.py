"""One model's report: what was measured over a span of time, as one self-contained HTML page. `page.report_page` makes it."""
