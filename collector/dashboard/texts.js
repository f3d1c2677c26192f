// Every word that people read. A second language is a second object of this shape, chosen at the bottom.

const count = (n, one, many) => `${n.toLocaleString("en-GB")} ${n === 1 ? one : many}`;

const en = {
  language: "en",
  locale: "en-GB", // how numbers and times are written
  title: "Water network",
  skip: "Skip to content",
  menu: "Pages",
  pages: { overview: "Overview", operations: "Operations" },
  theme: { label: "Colours", system: "As the system", light: "Light", dark: "Dark", is: (name) => `Colours: ${name}` },
  and: (list) => new Intl.ListFormat("en-GB").format(list),

  link: {
    live: "Live",
    connecting: "Connecting…",
    waiting: (s) => `No live feed, next try in ${s} s`,
    polling: "Values are asked for every 5 s meanwhile.",
    why: (reason) => `The collector closed the live feed: ${reason}`,
  },

  login: {
    title: "Who are you?",
    how: "Users are made on the collector's machine: collector user add NAME --role viewer",
    name: "Name", password: "Password", in: "Log in", out: "Log out",
    is: (name, role) => `${name}, ${role}`,
  },

  errors: {
    away: "The collector doesn't answer. Is it running, and is this machine connected?",
    slow: "The collector took too long to answer.",
    garbled: "The collector's answer can't be understood.",
    status: (status) => `The collector answered with status ${status}.`,
    failed: (what, why) => `${what}: ${why}`,
    page: "This page can't be shown",
    again: "Try again",
    bug: (why) => `A mistake in this page: ${why}`,
  },

  notice: {
    tier: (name, why) => `${name} is down: ${why}`,
    degraded: (what) => `Partial: ${what}`,
    trouble: (part, why) => `${part}: ${why}`,
    old: (since) => `What is shown is from ${since}.`,
  },

  age: {
    now: "now",
    ago: (text) => `${text} ago`,
    ahead: (text) => `in ${text}`,
    never: "never",
  },
  units: { ms: "ms", s: "s", min: "min", h: "h", d: "d", y: "y" },

  quality: { good: "good", uncertain: "uncertain", bad: "bad", manual: "manual", missing: "missing", stale: "stale" },
  noValue: "no value",
  on: "on",
  off: "off",

  metrics: {
    flow_rate: "Flow", pressure: "Pressure", level: "Level", temperature: "Temperature", total_volume: "Volume",
    chlorine: "Chlorine", ph: "pH", turbidity: "Turbidity", conductivity: "Conductivity", power: "Power", energy: "Energy",
    voltage: "Voltage", current: "Current", frequency: "Frequency", speed: "Speed", position: "Position",
    humidity: "Humidity", rain: "Rain", running: "Running", alarm: "Alarm", state: "State",
  },

  overview: {
    figures: "The network at a glance",
    inflow: "Inflow",
    inflowOf: (names) => `from ${names}`,
    inflowPart: (n, all) => `${n} of ${all} meters report`,
    reporting: "Nodes up to date",
    reportingAll: "every value is fresh",
    reportingStale: (n) => count(n, "node is stale or bad", "nodes are stale or bad"),
    gateways: "Gateways online",
    gatewaysAll: "all connected",
    gatewaysAway: (names) => `away: ${names}`,
    quality: "Data quality",
    qualityDay: (day) => `report of ${day}`,
    qualityNone: "no report yet",
    qualityHow: "Run the data_quality job under Operations.",
    gaps: "Gaps, last 24 h",
    gapsNone: "nothing is missing",
    gapsSome: (n) => count(n, "block missing", "blocks missing"),
    map: "Map of the network",
    nodes: "Nodes",
    find: "Find a node",
    findHint: "Name, or part of it",
    only: "Only troubled",
    none: "No node with that name.",
    noneTroubled: "No node is in trouble.",
    more: (n) => `${n} more: narrow the search`,
    open: (name) => `Open ${name}`,
    spark: (label, span, low, high) => `${label}, ${span}: from ${low} to ${high}`,
    last: (text) => `last ${text}`,
  },

  empty: {
    title: "Nothing has arrived yet",
    lead: "The collector is running and waits for its first gateway. To connect one:",
    steps: [
      ["Issue a certificate for the gateway", "collector ca issue STATION_7 --config /etc/collector/collector.toml"],
      ["Grant it its nodes in collector.toml, and restart the collector", "[grants]\nSTATION_7 = [\"DIST_00?\"]"],
      ["Copy ca.pem, STATION_7.pem and STATION_7.key to the gateway, and start the agent there", "edge-agent check --config /etc/edge-agent\nedge-agent run --config /etc/edge-agent"],
    ],
    then: "Its values show here by themselves within a second.",
  },

  node: {
    unknown: (name) => `There is no node ${name}`,
    unknownHow: "It may never have reported, or the link is old.",
    back: "All nodes",
    choose: "Node",
    values: "Newest values",
    range: "Range",
    custom: "From and to",
    from: "From",
    to: "To",
    show: "Show",
    follow: "Follow",
    earlier: "Earlier",
    later: "Later",
    closer: "Zoom in",
    wider: "Zoom out",
    week: "Compare with last week",
    lastWeek: "a week before",
    csv: "CSV",
    csvOf: (label) => `CSV: ${label}`,
    table: "Values as a table",
    tableMore: (n) => `${n} more are in the CSV file`,
    time: "Time",
    value: "Value",
    average: "Average",
    lowest: "Lowest",
    highest: "Highest",
    increase: "Increase",
    quality: "Quality",
    help: "Drag to zoom, Shift and drag to pan, double-click to zoom out. Pinch, or Ctrl and wheel, zoom as well. With the keyboard: arrows pan, + and − zoom, Home follows.",
    loading: "loading…",
    nothing: "No readings in this stretch.",
    nothingHow: (text) => `The newest one is from ${text}.`,
    goThere: "Go there",
    label: {
      raw: "all readings",
      thinned: "highs and lows of all readings",
      "5m": "5 min buckets", "1h": "1 h buckets", "1d": "1 d buckets",
      known: (text) => `${text} known`,
      tiers: (list) => `from ${list}`,
      truncated: "more than is shown",
      recomputed: (n) => count(n, "late bucket summed up anew", "late buckets summed up anew"),
      bad: (n) => `${n.toLocaleString("en-GB")} bad`,
      uncertain: (n) => `${n.toLocaleString("en-GB")} uncertain`,
    },
    chart: (label, span, low, high, last) => `Chart of ${label}, ${span}: lowest ${low}, highest ${high}, last ${last}. Arrow keys pan, plus and minus zoom.`,
    per: { "5m": "per 5 min", "1h": "per hour", "1d": "per day" },
  },

  spans: [["5 min", 300], ["15 min", 900], ["1 h", 3600], ["6 h", 21600], ["24 h", 86400], ["7 d", 604800], ["30 d", 2592000], ["90 d", 7776000], ["1 y", 31536000], ["2 y", 63072000]],

  operations: {
    tiers: "Tiers",
    tierNames: { hot: "Hot tier", warm: "Warm tier", cold: "Archive" },
    tierWhat: { hot: "last 24 hours", warm: "the truth of the last 90 days", cold: "whole days, for good" },
    up: "in order",
    down: "down",
    answered: "Answers in",
    hitRate: "Cache hit rate",
    facts: {
      series: "Series", readings: "Readings", evicted: "Evicted", dirty_buckets: "Buckets to sum up", quarantined: "Set aside",
      parked: "Parked blocks", bytes: "Disk", days: "Days", files: "Files", first: "First day", last: "Last day",
    },
    spool: "Queue on disk",
    spoolWhat: "between arrival and the warm tier",
    spoolUse: "In use",
    spoolRecords: "Records",
    clients: "Live clients",
    version: "Version",
    uptime: "Up for",

    gateways: "Gateways",
    gatewaysNone: "No gateway was ever heard.",
    gatewaysHow: "Issue a certificate with `collector ca issue`, and start edge-agent with it.",
    gateway: "Gateway", state: "State", seen: "Last heard", agent: "Agent", clock: "Clock", points: "Points", bad: "In error",
    waiting: "Spool", oldest: "Oldest unsent", series: "Series", gapsOf: "Gaps",
    online: "online", away: "away",
    blocks: (n) => count(n, "block", "blocks"),
    none: "none",

    jobs: "Jobs",
    job: "Job", schedule: "Schedule", next: "Next", lastRun: "Last run", run: "Run now",
    started: (name) => `${name} has begun.`,
    byHand: "by hand only",
    off: "off",
    history: "Runs",
    historyNone: "No job has run yet.",
    when: "Begun", took: "Took", how: "Outcome", rows: "Rows", detail: "What it did", attempt: (n) => `attempt ${n}`,
    status: { running: "running", done: "done", failed: "failed", interrupted: "interrupted" },
    progress: (name, text) => `${name}: ${text}`,

    quality: "Data quality",
    qualityNone: "No report yet: it is made every night, or now with the data_quality job above.",
    csv: "CSV",
    score: "Score", completeness: "Complete", longest: "Longest gap", counts: "Bad / uncertain",

    gaps: "Gaps",
    gapsNone: "Nothing is known to be missing.",
    gapsWhat: "What agents know they lost, and why.",
    reason: "Reason", from: "From", to: "To", missing: "Blocks",
    unknownTime: "unknown",

    quarantine: "Set aside",
    quarantineNone: "No reading was set aside.",
    at: "Says it was", received: "Came", because: "Because",
    parked: "Waiting for a clock",
    boot: "Boot",
    more: "Older ones are left out.",
  },
};

export const texts = en;

/** What a metric is called; one that isn't known by its own name. */
export const metricName = (metric) =>
  texts.metrics[metric] ?? metric.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());

/** `Flow inlet` */
export const seriesName = (series) => metricName(series.metric) + (series.channel ? ` ${series.channel}` : "");
