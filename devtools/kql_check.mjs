// Checks .kql files with Microsoft's own parser: syntax, and names and types against the tables, views and functions.
//
//   node devtools/kql_check.mjs [--schema FILE]... FILE...
//
// What the --schema files create is known in every file; what another file creates is known below it in that file alone. A
// file begins with a management command (a dot in column 0) and holds commands, or is one query. Prints
// `file:line:column severity code message` and exits 1 where there is any. The parser does not look into ingestion mappings nor know the rules
// of materialized views; codes that begin with X are this file's own. So is the list of commands that create something: one
// that it cannot read is an error, so that nothing goes unchecked.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
require('@kusto/language-service-next/bridge.min.js'); // first: it makes the globals that the second one needs
require('@kusto/language-service-next/Kusto.Language.Bridge.min.js');
const { GlobalState, KustoCode, Symbols, Editor } = globalThis.Kusto.Language;

const WITH = String.raw`(?:with\s*\([^)]*\)\s*)?`;
const TABLE = /^\.create(?:-merge)? table (\w+)\s*(\([^)]*\))/;
const MAPPING = /^\.create-or-alter table (\w+) ingestion json mapping "\w+"\s*```(.*)```\s*$/s;
const VIEW = new RegExp(String.raw`^\.create-or-alter materialized-view ${WITH}(\w+)\s+on table (\w+)\s*\{(.*)\}\s*$`, 's');
const FUNCTION = new RegExp(String.raw`^\.create-or-alter function ${WITH}(\w+)\s*(\([^)]*\))\s*(\{.*\})\s*$`, 's');
const ACCEPTED_ADVICE = new Set(['Suggestion', 'Hidden', 'Information']);

// Bridge's lists and plain arrays, as arrays. The parser gives now the one, now the other.
const listed = (list) => Array.from({ length: globalThis.System.Array.getCount(list) }, (_, i) => globalThis.System.Array.getItem(list, i));

const globalsOf = (symbols) => GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor('tollgate', [...symbols.values()]));

// The columns of a tabular expression, or of a table, by name.
const columnsOf = (type) => new Map(listed(type.Columns).map((column) => [column.Name, column]));

function parsed(text, symbols) {
  const code = KustoCode.ParseAndAnalyze(text, globalsOf(symbols));
  const found = [code.GetDiagnostics(), new Editor.KustoCodeService.ctor(code).GetAnalyzerDiagnostics(true)].flatMap(listed);
  const problems = found
    .filter((each) => !ACCEPTED_ADVICE.has(each.Severity))
    .map((each) => ({ at: each.Start, severity: each.Severity, code: each.Code, message: each.Message }));
  return { code, problems };
}

// What a command creates, and what is wrong with it beyond the parser's view.
function created(text, symbols) {
  let match;
  if ((match = TABLE.exec(text))) return { symbol: new Symbols.TableSymbol.$ctor7(match[1], match[2], null), problems: [] };
  if ((match = MAPPING.exec(text))) return { problems: mappingProblems(match[2], symbols.get(match[1])) };
  if ((match = VIEW.exec(text))) return viewOf(match[1], match[2], match[3], symbols);
  if ((match = FUNCTION.exec(text))) return { symbol: new Symbols.FunctionSymbol.$ctor16(match[1], match[2], match[3], null), problems: [] };
  return { problems: /^\.create/.test(text) ? [['X100', 'This form of .create is not known to the checker']] : [] };
}

function mappingProblems(json, table) {
  let entries;
  if (!table) return [['X200', 'The mapping is of a table that is not known']];
  try {
    entries = JSON.parse(json);
  } catch (error) {
    return [['X201', `The mapping is no JSON: ${error.message}`]];
  }
  const columns = columnsOf(table);
  const names = entries.map((entry) => entry.column);
  return [
    ...names.filter((name) => !columns.has(name)).map((name) => ['X202', `The mapping names ${name}, which is no column`]),
    ...names.filter((name, i) => names.indexOf(name) < i).map((name) => ['X203', `The mapping names ${name} twice`]),
    ...[...columns.keys()].filter((name) => !names.includes(name)).map((name) => ['X204', `The mapping leaves ${name} out`]),
    ...entries.filter((entry) => !/^\$\.\w+/.test(entry.Properties?.Path)).map((entry) => ['X205', `The path of ${entry.column} is none`]),
  ];
}

// https://learn.microsoft.com/kusto/management/materialized-views/materialized-view-create
function viewOf(name, source, query, symbols) {
  const { code, problems } = parsed(query, symbols);
  const stages = query.split('|').map((stage) => stage.trim());
  const broken = [];
  if (stages[0].split(/\s/)[0] !== source) broken.push(['X301', `The view does not begin with its table ${source}`]);
  if (!/^summarize\b/.test(stages.at(-1))) broken.push(['X302', 'The view does not end with summarize']);
  if (/\b(now|ago|ingestion_time)\s*\(/.test(query)) broken.push(['X303', 'The view depends on when it is made']);
  if (/\b(order by|sort by|top|take|limit|join)\b/.test(query)) broken.push(['X304', 'The view has an operator that views may not have']);
  const isTable = problems.length === 0 && code.ResultType?.Columns;
  return { symbol: isTable ? new Symbols.MaterializedViewSymbol.$ctor2(name, code.ResultType.Columns, query, null) : undefined, problems: broken };
}

// The blocks of a file with where each begins: its commands, or the one query.
function blocksOf(text) {
  const starts = [...text.matchAll(/^\./gm)].map((match) => match.index);
  if (!/^\s*(\/\/.*\s+)*\./.test(text)) return [{ start: 0, text }];
  return starts.map((start, i) => ({ start, text: text.slice(start, starts[i + 1]).replace(/(\s*\n(\/\/[^\n]*)?)*$/, '') }));
}

// Checks a file; what it creates is added to `symbols`.
function check(file, symbols) {
  const whole = readFileSync(file, 'utf8');
  return blocksOf(whole).flatMap(({ start, text }) => {
    const { problems } = parsed(text, symbols);
    const { symbol, problems: own } = text.startsWith('.') ? created(text, symbols) : { problems: [] };
    if (symbol) symbols.set(symbol.Name, symbol);
    return [...problems, ...own.map(([code, message]) => ({ at: 0, severity: 'Error', code, message }))].map((problem) => {
      const before = whole.slice(0, start + problem.at).split('\n');
      return `${file}:${before.length}:${before.at(-1).length + 1} ${problem.severity} ${problem.code} ${problem.message}`;
    });
  });
}

const known = new Map();
const problems = [];
const files = process.argv.slice(2);
while (files[0] === '--schema') problems.push(...check(files.splice(0, 2)[1], known));
problems.push(...files.flatMap((file) => check(file, new Map(known))));
if (problems.length) console.log(problems.join('\n'));
process.exitCode = problems.length ? 1 : 0;
