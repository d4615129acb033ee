"""The style of the page: light and dark, for phones and larger screens."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1b1f24; --faint: #59636e; --grid: #dfe3e8; --box: #f5f7f9;
  --run-0: #0072b2; --run-1: #d1510a; --run-2: #00855f;
  --run-3: #a8478a; --run-4: #9a6a00; --run-5: #5f6b76;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e9ec; --faint: #9aa4af; --grid: #343b43;
    --box: #1d2226;
    --run-0: #58b4f4; --run-1: #ff9155; --run-2: #3ed3a3;
    --run-3: #ea9fd0; --run-4: #edbe4a; --run-5: #b4bec8;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 80rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere;
}
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
h1, p, figure, ul { margin: 0 0 .8rem; }
p, figcaption, summary { max-width: 45rem; }
ul { padding: 0; list-style: none; }
.faint { color: var(--faint); }
.note { padding: .4rem .8rem; border-left: .25rem solid var(--run-1);
  background: var(--box); }
.key { width: 2.4rem; height: .6rem; margin-right: .5rem; overflow: visible; }
.key line { stroke-width: 3; }
.curves { display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
figure { min-width: 0; }
.curves figure { margin: 0; max-width: 40rem; }
figcaption { font-weight: 600; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: inherit !important; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; }
.pictures { display: grid; gap: 0 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
.pictures figcaption { font-weight: 400; color: var(--faint); }
.wide { overflow-x: auto; margin: 0 0 .8rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .9rem; overflow-wrap: break-word; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--grid);
  text-align: left; vertical-align: top; }
th { font-weight: 600; }
td.number { text-align: right; white-space: nowrap; }
thead th { white-space: nowrap; }
td, tbody th { max-width: 22rem; }
tbody th { min-width: 11rem; }
details { margin: 0 0 .6rem; }
summary { cursor: pointer; }
"""
