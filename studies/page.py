"""What every report page holds whatever was compared: its head, words, style and script.

The style has a light and a dark set of colours; the script draws the figures with plotly, gives
them the page's colours, and draws them anew when the colours or the chosen arm change. What is far
below the window is drawn when it comes near.
"""

from __future__ import annotations

HEAD = """<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: blob:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">"""

INTRODUCTION = """<p class=lead>A fleet of unequal devices trains one model together. The model
will be deployed at low precision, and in every round everybody waits for the slowest client. So for
each client and round there is a choice: <b>skip</b> the round, train in floats (<b>fp32</b>), train
in floats and quantize afterwards (<b>ptq</b>, fast), or train with the rounding in the loop
(<b>qat</b>, slower, and the model learns to live with low precision). Each arm below makes that
choice in its own way; all arms of a seed share data, devices and first weights. Accuracy is always
that of the quantized model, and time is simulated.</p>
"""

READ_TABLE = """Time to the target counts only seeds that reached it, and only arms whose seeds
all did can be fastest."""
READ_ACCURACY = """<b>How to read.</b> Further left and higher is better. Lines are means over the
seeds after the same round, bands reach from the worst to the best seed; the dashed line is the
target. Click a name to hide an arm."""
READ_FRONTIER = """<b>How to read.</b> Each point is an allocation that no other beats in both
predicted loss and round time, as planned for the first round; going right costs time and buys
accuracy. The diamond is the one that fedhq chose."""
READ_ALLOCATION = """<b>How to read.</b> One row a client, the fastest device on top; one column a
round. The colour says what the client did; blank means not in the round's cohort."""
READ_WATERFALL = """<b>How to read.</b> One bar a client: how long its last round took. The slowest
sets the round time, the dashed line; all room between a bar and the line is waiting."""

STYLE = """
:root{--page:#fbfbfa;--card:#fff;--ink:#1d2228;--soft:#59626d;--line:#e4e6e9;--accent:#00775a;
--grid:#e9ebee;--shade:#0002}
@media (prefers-color-scheme:dark){:root{--page:#121518;--card:#1a1e23;--ink:#e6e9ec;--soft:#a0a9b4;
--line:#2c3239;--accent:#3ccb9f;--grid:#2a3037;--shade:#000b}} *{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:0 24px 48px;background:var(--page);color:var(--ink);
font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
overflow-wrap:break-word} header{padding:48px 0 8px}
.kicker{margin:0;color:var(--accent);font-size:13px;font-weight:600;letter-spacing:.08em;
text-transform:uppercase}
h1{margin:4px 0 16px;font-size:36px;line-height:1.15;letter-spacing:-.02em}
h2{margin:0 0 16px;font-size:24px;letter-spacing:-.01em} h3{margin:0;font-size:17px}
.lead{max-width:74ch;margin:0 0 20px;color:var(--soft)} .lead b{color:var(--ink)}
nav{display:flex;flex-wrap:wrap;gap:8px}
nav a{max-width:100%;padding:5px 14px;border:1px solid var(--line);border-radius:99px;
background:var(--card);color:var(--ink);text-decoration:none;font-size:14px}
nav a:hover{border-color:var(--accent);color:var(--accent)} section{padding-top:40px}
figure,.table{margin:0 0 20px;border:1px solid var(--line);border-radius:12px;
background:var(--card)}
.table{overflow-x:auto;background:
linear-gradient(to left,var(--card) 40%,transparent) right/48px 100% no-repeat local,
linear-gradient(to left,var(--shade),transparent) right/16px 100% no-repeat scroll,var(--card)}
figure{padding:18px 20px 16px}
.bar{display:flex;flex-wrap:wrap;align-items:center;justify-content:space-between;gap:8px 16px;
margin-bottom:10px} label{font-size:14px;color:var(--soft);max-width:100%}
select{max-width:220px;font:inherit;color:var(--ink);background:var(--page);
border:1px solid var(--line);border-radius:8px;padding:4px 8px}
figcaption,.note{color:var(--soft);font-size:14px;line-height:1.5}
figcaption{margin-top:10px;max-width:88ch} figcaption b{color:var(--ink);font-weight:600}
.note{margin:-8px 2px 20px;max-width:94ch}
table{width:100%;border-collapse:collapse;font-size:15px;font-variant-numeric:tabular-nums}
th,td{padding:10px 16px;text-align:right;white-space:nowrap}
th:first-child{position:sticky;left:0;background:var(--card);text-align:left}
thead th{color:var(--soft);font-size:13px;font-weight:600} 
tbody th{min-width:164px;max-width:min(50vw,320px);white-space:normal;font-weight:500}
tbody tr{border-top:1px solid var(--line)} .best{font-weight:650}
.mark{margin-right:2px;padding:1px 7px;border-radius:99px;color:var(--accent);
border:1px solid currentColor;font-size:11px;font-weight:600;vertical-align:1px}
.dot{display:inline-block;width:10px;height:10px;margin-right:10px;border-radius:3px}
footer{margin-top:40px;padding-top:20px;border-top:1px solid var(--line);color:var(--soft);
font-size:14px}
pre{overflow-x:auto;padding:12px 16px;border-radius:8px;background:var(--card);
border:1px solid var(--line);color:var(--ink);font-size:13px}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
@media (max-width:640px){body{padding:0 12px 32px}header{padding-top:28px}h1{font-size:28px}
figure{padding:14px 12px}th,td{padding:9px 12px}}
"""

SCRIPT = """
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const config = {responsive: true, displaylogo: false, modeBarButtons: [["toImage"]]};
  const themed = (layout, narrow) => {
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => css.getPropertyValue("--" + name).trim();
    Object.assign(layout.font, {color: colour("soft"), size: narrow ? 12 : 13});
    Object.assign(layout.hoverlabel, {bgcolor: colour("card"), bordercolor: colour("line")});
    layout.hoverlabel.font.color = colour("ink");
    for (const name in layout) {
      if (!/^[xy]axis/.test(name)) continue;
      const axis = layout[name];
      axis.gridcolor = axis.linecolor = colour("grid");
      axis.tickfont = {...axis.tickfont, color: colour("soft")};
    }
    for (const note of layout.annotations || []) note.font = {...note.font, color: colour("ink")};
    layout.modebar = {bgcolor: "transparent", color: colour("soft"), activecolor: colour("ink")};
    if (touch) layout.dragmode = false;
    return layout;
  };
  const draw = (plot) => {
    const figures = plots[plot.dataset.plot];
    const select = plot.parentElement.querySelector("select");
    const figure = structuredClone(figures[select ? select.value : 0]);
    plot.setAttribute("aria-label", figure.layout.meta);
    const narrow = plot.clientWidth < 520;
    config.displayModeBar = narrow || touch ? false : "hover";
    Plotly.react(plot, figure.data, themed(figure.layout, narrow), config);
  };
  const waiting = new Set(document.querySelectorAll(".plot"));
  const drawn = new Set();
  const show = (plot) => {
    if (!waiting.delete(plot)) return;
    near.unobserve(plot);
    drawn.add(plot);
    draw(plot);
  };
  const near = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (entry.isIntersecting) show(entry.target);
  }), {rootMargin: "500px"});
  waiting.forEach((plot) => near.observe(plot));
  addEventListener("beforeprint", () => waiting.forEach(show));
  dark.addEventListener("change", () => drawn.forEach(draw));
  document.querySelectorAll("select").forEach((select) => select.addEventListener("change", () =>
    document.querySelectorAll(`select[data-scenario="${select.dataset.scenario}"]`)
      .forEach((other) => { other.value = select.value;
        const plot = other.closest("figure").querySelector(".plot");
        if (drawn.has(plot)) draw(plot); })));
})();
"""
