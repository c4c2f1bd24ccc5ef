// Lints an OpenAPI document with Redocly's rules: node lint.mjs DOCUMENT CONFIG. Exit code 1 when there is a complaint.
import { formatProblems, lint, loadConfig } from '@redocly/openapi-core';

const [document, configPath] = process.argv.slice(2);
const config = await loadConfig({ configPath });
const problems = await lint({ ref: document, config });
formatProblems(problems, {
  format: 'codeframe',
  version: '',
  totals: { errors: problems.length, warnings: 0, ignored: 0 },
});
process.exit(problems.length > 0 ? 1 : 0);
