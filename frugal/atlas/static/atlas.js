"use strict";

// The documentation's theme keeps its choice under the same key.
const themes = ["auto", "light", "dark"];
const theme = () => themes.find((name) => name === localStorage.getItem("theme")) || "auto";
document.documentElement.dataset.theme = theme();

function themeSwitch(button) {
  const show = () => {
    document.documentElement.dataset.theme = theme();
    button.textContent = { auto: "◐ auto", light: "○ light", dark: "● dark" }[theme()];
    button.setAttribute("aria-label", `Colours: ${theme()}`);
  };
  button.addEventListener("click", () => {
    localStorage.setItem("theme", themes[(themes.indexOf(theme()) + 1) % themes.length]);
    show();
  });
  button.hidden = false;
  show();
}

function copyButton(button) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}

// The state of the filters is the query of the address; an empty one is left out.
function filters(form) {
  const sections = [...document.querySelectorAll(".family")];
  const rows = [...document.querySelectorAll(".family li")].map((element) => ({
    element,
    data: element.dataset,
    text: `${element.textContent} ${element.dataset.more}`.toLowerCase(),
  }));
  const count = document.getElementById("count");
  const clear = form.querySelector("[type=reset]");

  const chosen = () => [...new FormData(form)].filter(([, value]) => value.trim());

  function apply() {
    const conditions = chosen().filter(([name]) => name !== "q");
    const words = form.elements.q.value.toLowerCase().split(/\s+/);
    let found = 0;
    for (const { element, data, text } of rows) {
      const fits =
        conditions.every(([name, value]) => data[name].split(" ").includes(value)) &&
        words.every((word) => text.includes(word));
      element.hidden = !fits;
      found += fits;
    }
    for (const section of sections) section.hidden = !section.querySelector("li:not([hidden])");
    document.getElementById("none").hidden = found > 0;
    clear.hidden = !chosen().length;
    count.textContent = clear.hidden ? `${found} systems` : `${found} of ${rows.length} systems`;
  }

  function read() {
    const query = new URLSearchParams(location.search);
    for (const field of form.elements) if (field.name) field.value = query.get(field.name) || "";
    apply();
  }

  function write() {
    const query = new URLSearchParams(chosen()).toString();
    history.replaceState(null, "", location.pathname + (query && `?${query}`) + location.hash);
    apply();
  }

  for (const event of ["input", "change"]) form.addEventListener(event, write);
  form.addEventListener("reset", () => setTimeout(write));
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("pageshow", read);
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      form.elements.q.focus();
    }
  });
  read();
}

addEventListener("DOMContentLoaded", () => {
  themeSwitch(document.getElementById("theme"));
  document.querySelectorAll(".copy").forEach(copyButton);
  const form = document.getElementById("filters");
  if (form) filters(form);
});
