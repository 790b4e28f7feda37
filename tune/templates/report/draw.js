"use strict";
// One figure after another, so that the page can be read and scrolled meanwhile.
const waiting = [...document.querySelectorAll(".plotly-graph-div")];
const touched = window.matchMedia("(pointer: coarse)").matches;

function draw() {
  const place = waiting.shift();
  if (!place) return;
  const figure = JSON.parse(place.nextElementSibling.textContent);
  if (touched) figure.layout.dragmode = false; // a finger on a figure scrolls the page
  const settings = { responsive: true, displayModeBar: false, displaylogo: false, showTips: false };
  Plotly.newPlot(place, figure.data, figure.layout, settings).then(() => setTimeout(draw));
}

draw();
