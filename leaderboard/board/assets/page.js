// Starts the tables and the charts of index.html, and shows the same rows in both.
(async () => {
  const FEW = 60;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.classList.toggle("dark", dark.matches);
  dark.addEventListener("change", follow);
  follow();

  const startTable = (element) => {
    const many = element.tBodies[0].rows.length > FEW;
    return jQuery(element).DataTable({
      order: [],
      autoWidth: false,
      paging: many,
      pageLength: 50,
      lengthMenu: [50, 200, { label: "all", value: -1 }],
      language: { search: "Find a row ", lengthMenu: "_MENU_ rows a page", info: "_TOTAL_ rows", infoFiltered: "of _MAX_" },
      layout: {
        topStart: "search",
        topEnd: { buttons: [{ extend: "colvis", text: "Columns" }] },
        bottomStart: many ? ["info", "pageLength"] : "info",
        bottomEnd: many ? "paging" : null,
      },
    });
  };

  for (const section of document.querySelectorAll("section.suite")) {
    const element = section.querySelector("table.rows");
    const table = element ? startTable(element) : null;
    const chart = section.querySelector(".chart");
    if (!chart) continue;
    const spec = JSON.parse(section.querySelector("script.spec").textContent);
    const { view } = await vegaEmbed(chart, spec, {
      renderer: "svg",
      ast: true,
      logLevel: 1, // errors: a filter that leaves nothing of a layer is worth no warning
      actions: { export: true, source: false, compiled: false, editor: false },
      downloadFileName: section.id,
      tooltip: { theme: "board", anchor: "mark", position: ["right", "left", "top", "bottom"] },
    });
    if (!table) continue;
    const column = (name) => table.column(element.querySelector(`thead th[data-key="${name}"]`));
    const signals = view.getState({ signals: (name) => ["method", "base_model", "tier"].includes(name) }).signals;
    for (const name of Object.keys(signals)) {
      view.addSignalListener(name, (_, value) => {
        const keep = value === null ? null : (text) => text === value;
        column(name).search.fixed("chart", keep ?? "").draw();
      });
    }
    // What the search leaves goes to the chart; the chart's own filters have been there before.
    table.on("search.dt", () => {
      const rows = table.rows({ search: "applied" }).nodes().toArray();
      const found = table.search() ? Object.fromEntries(rows.map((row) => [row.dataset.row, true])) : null;
      view.signal("found", found).runAsync();
    });
  }
  document.documentElement.dataset.ready = "";
})();
