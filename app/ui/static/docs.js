// Start Swagger UI on the OpenAPI document; a file of its own, so that the page needs no inline script.
// The page /docs/models/NAME shows the document of one model: ?version=3 or ?alias=champion names which of it.
const documentUrl = () => {
  const [, root, name] = location.pathname.match(/^(.*)\/docs\/models\/([^/]+)$/) ?? [];
  if (name === undefined) return "openapi.json";
  const asked = new URLSearchParams(location.search);
  const version = asked.get("version") === null ? "" : `/versions/${encodeURIComponent(asked.get("version"))}`;
  const alias = asked.get("alias") === null ? "" : `/labels/${encodeURIComponent(asked.get("alias"))}`;
  return `${root}/v1/models/${name}${version || alias}/openapi.json`;
};

window.addEventListener("load", () => {
  window.ui = SwaggerUIBundle({
    url: documentUrl(),
    dom_id: "#swagger-ui",
    deepLinking: true,
    tryItOutEnabled: true,
    displayRequestDuration: true,
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis],
  });
});
