export const openapi = () => ({ openapi: "3.1.0", info: { title: "Lamplighter", version: "0" }, paths: {} });
