-- Checks a JSON call against the contract before the transcoder reads it: a body of JSON to the letter (RFC 8259), no key
-- that the contract does not know, none twice, no value of another type, all within fixed bounds; and a query that gives
-- no field that path or body give, or another part of it has given.
-- Runs on routes that name a body (BODY in their metadata) and never on a gRPC call. Changes nothing.
-- Fails closed: an error in the check is a refusal. checks is the script above; BODY, MOST, DEPTH_MAX and DIGITS_MAX are
-- set there, too. Below the script, the compiler calls `body`, `message` and `enum` for all that the contracts hold.
--
-- Byte by byte, because LuaJIT does not compile string patterns: with them the same check takes four times as long.

local byte, sub, char = string.byte, string.sub, string.char

-- All calls but gRPC ones are taken by the transcoder, whatever they call themselves.
local stop, is_grpc = checks.stop, checks.is_grpc

-- The contracts -------------------------------------------------------------------------------------------------

local BODIES, MESSAGES, ENUMS = {}, {}, {}
local NONE = {kind = "none"}

-- What a binding takes. Of `rest`: `open` where anybody may call, `query` the message whose fields a query gives, `path`
-- the fields that stand in the path, and `field` the one that is the body. Without a shape, there is no body.
local function body(name, rest, shape)
  rest.shape = shape or NONE
  BODIES[name] = rest
end

-- A field is known by two names, and giving it both is giving it twice.
local function message(name, fields)
  local known = {}
  for _, field in ipairs(fields) do
    known[field.name] = field
    known[field.json] = field
  end
  MESSAGES[name] = known
end

local function enum(name, values)
  local known = {}
  for _, value in ipairs(values) do known[value] = true end
  ENUMS[name] = known
end

-- The one check that runs ---------------------------------------------------------------------------------------
-- Requests take turns only while one waits for its body, which is before its check begins.

local text, at = "", 1        -- the body, and the next byte of it
local path, depth = {}, 0     -- where that is: a field's name or an index for each container around it

local function place()
  local parts = {}
  for level = 0, depth do
    local step = path[level]
    if type(step) == "number" then
      parts[#parts + 1] = "[" .. step .. "]"
    elseif step ~= "" then
      if #parts > 0 and byte(step) ~= 91 then parts[#parts + 1] = "." end
      parts[#parts + 1] = step
    end
  end
  return table.concat(parts)
end

local function refuse(reason, sentence)
  local where = place()
  if where ~= "" then sentence = where .. ": " .. sentence end
  error({status = "400", reason = reason, sentence = sentence}, 0)
end

local function malformed(sentence)
  refuse("JSON_INVALID", sentence .. " (byte " .. at .. ")")
end

local FOUND = {[34] = "a string", [91] = "a list", [123] = "an object", [110] = "null", [116] = "true", [102] = "false"}
for digit = 48, 57 do FOUND[digit] = "a number" end
FOUND[45] = "a number"

local function shown(first)
  if first == nil then return "the end" end
  if first > 32 and first < 127 then return "'" .. char(first) .. "'" end
  return string.format("byte 0x%02x", first)
end

-- Something else stands where a value of the contract's type should.
local function mistaken(expected, first)
  if FOUND[first] == nil then malformed("not JSON: expected " .. expected .. ", not " .. shown(first)) end
  refuse("JSON_TYPE", "must be " .. expected .. ", not " .. FOUND[first])
end

-- The next byte that is not white space.
local function skip()
  local found = byte(text, at)
  while found == 32 or found == 10 or found == 13 or found == 9 do
    at = at + 1
    found = byte(text, at)
  end
  return found
end

local function enter()
  if depth == DEPTH_MAX then refuse("JSON_TOO_DEEP", "more than " .. DEPTH_MAX .. " objects and lists in each other") end
  depth = depth + 1
  path[depth] = ""
  at = at + 1
end

local function leave()
  depth = depth - 1
  at = at + 1
end

-- Strings -------------------------------------------------------------------------------------------------------

local function is_tail(index, low, high)
  local found = byte(text, index)
  return found ~= nil and found >= low and found <= high
end

-- The length of the character that begins at an index with a byte above 127, or nil where it is no UTF-8 (RFC 3629).
local function utf8_length(index, first)
  if first < 0xc2 then return nil end
  if first < 0xe0 then
    return is_tail(index + 1, 0x80, 0xbf) and 2 or nil
  end
  if first < 0xf0 then
    local low = first == 0xe0 and 0xa0 or 0x80
    local high = first == 0xed and 0x9f or 0xbf
    return is_tail(index + 1, low, high) and is_tail(index + 2, 0x80, 0xbf) and 3 or nil
  end
  if first > 0xf4 then return nil end
  local low = first == 0xf0 and 0x90 or 0x80
  local high = first == 0xf4 and 0x8f or 0xbf
  local sound = is_tail(index + 1, low, high) and is_tail(index + 2, 0x80, 0xbf) and is_tail(index + 3, 0x80, 0xbf)
  return sound and 4 or nil
end

-- The number that four hexadecimal digits make, or nil.
local function hex4(index)
  local number = 0
  for position = index, index + 3 do
    local found = byte(text, position)
    if found == nil then return nil end
    if found >= 48 and found <= 57 then
      found = found - 48
    elseif found >= 97 and found <= 102 then
      found = found - 87
    elseif found >= 65 and found <= 70 then
      found = found - 55
    else
      return nil
    end
    number = number * 16 + found
  end
  return number
end

local ESCAPES = {
  [34] = '"', [92] = "\\", [47] = "/", [98] = "\b", [102] = "\f", [110] = "\n", [114] = "\r", [116] = "\t",
}

-- The length of the escape at an index, and the code point where it is a numbered one.
local function escape_length(index)
  local kind = byte(text, index + 1)
  if ESCAPES[kind] ~= nil then return 2, nil end
  local high = kind == 117 and hex4(index + 2) or nil
  if high == nil then
    at = index
    malformed("not an escape of JSON")
  end
  if high < 0xd800 or high > 0xdfff then return 6, high end
  local low = nil
  if high < 0xdc00 and byte(text, index + 6) == 92 and byte(text, index + 7) == 117 then low = hex4(index + 8) end
  if low == nil or low < 0xdc00 or low > 0xdfff then
    at = index
    malformed("half of a surrogate pair")
  end
  return 12, 0x10000 + (high - 0xd800) * 0x400 + (low - 0xdc00)
end

-- Passes a string, its opening quote already passed. Returns where it began and ended, and whether it has escapes.
local function pass_string()
  local from, index, escaped = at, at, false
  while true do
    local found = byte(text, index)
    if found == 34 then break end
    if found == nil then
      at = index
      malformed("a string without an end")
    elseif found == 92 then
      escaped = true
      index = index + escape_length(index)
    elseif found < 32 then
      at = index
      malformed("a control character must be escaped")
    elseif found < 128 then
      index = index + 1
    else
      local length = utf8_length(index, found)
      if length == nil then
        at = index
        malformed("not UTF-8")
      end
      index = index + length
    end
  end
  at = index + 1
  return from, index - 1, escaped
end

local function utf8(code)
  if code < 0x80 then return char(code) end
  local last = char(0x80 + code % 64)
  code = math.floor(code / 64)
  if code < 0x20 then return char(0xc0 + code) .. last end
  last = char(0x80 + code % 64) .. last
  code = math.floor(code / 64)
  if code < 0x10 then return char(0xe0 + code) .. last end
  return char(0xf0 + math.floor(code / 64)) .. char(0x80 + code % 64) .. last
end

-- Passes a string like pass_string; returns what it says. Keys may be spelt with escapes, so they are compared decoded.
local function read_string()
  local from, to, escaped = pass_string()
  if not escaped then return sub(text, from, to) end
  local parts, index = {}, from
  while index <= to do
    local found = byte(text, index)
    if found == 92 then
      local length, code = escape_length(index)
      parts[#parts + 1] = code and utf8(code) or ESCAPES[byte(text, index + 1)]
      index = index + length
    else
      parts[#parts + 1] = char(found)
      index = index + 1
    end
  end
  return table.concat(parts)
end

-- Numbers -------------------------------------------------------------------------------------------------------

local function is_digit(found)
  return found ~= nil and found >= 48 and found <= 57
end

local function after_digits(source, index)
  while is_digit(byte(source, index)) do index = index + 1 end
  return index
end

-- Where the number ends that begins at an index, and where its fraction and its exponent begin; nil: it is none.
local function number_at(source, index)
  if byte(source, index) == 45 then index = index + 1 end
  local stop, fraction, exponent = index, nil, nil
  if byte(source, index) == 48 then stop = index + 1 else stop = after_digits(source, index) end
  if stop == index then return nil end
  if byte(source, stop) == 46 then
    fraction = stop
    stop = after_digits(source, fraction + 1)
    if stop == fraction + 1 then return nil end
  end
  local found = byte(source, stop)
  if found == 101 or found == 69 then
    exponent = stop
    local sign = byte(source, stop + 1)
    local first = (sign == 43 or sign == 45) and stop + 2 or stop + 1
    stop = after_digits(source, first)
    if stop == first then return nil end
  end
  return stop, fraction, exponent
end

local function bounded(token)
  if #token > DIGITS_MAX + 4 then refuse("JSON_NUMBER", "a number of more than " .. DIGITS_MAX .. " digits") end
  local digits = 0
  for index = 1, #token do
    if is_digit(byte(token, index)) then digits = digits + 1 end
  end
  if digits > DIGITS_MAX then refuse("JSON_NUMBER", "a number of more than " .. DIGITS_MAX .. " digits") end
end

-- Passes a number; returns it as it is written, and where its fraction and its exponent begin.
local function read_number()
  local from = at
  local stop, fraction, exponent = number_at(text, from)
  if stop == nil then malformed("not JSON: expected a number") end
  at = stop
  local token = sub(text, from, stop - 1)
  bounded(token)
  return token, fraction and fraction - from + 1, exponent and exponent - from + 1
end

-- Passes a string that has to say a number; returns as read_number does, or nil where it says none.
local function read_quoted_number()
  at = at + 1
  local token = read_string()
  local stop, fraction, exponent = number_at(token, 1)
  if stop ~= #token + 1 then return nil, token end
  bounded(token)
  return token, fraction, exponent
end

local TOO_LONG = string.rep("9", 40)

-- The digits of a number that is written with fraction or exponent but has no sign; nil: it is not whole.
local function whole(number, fraction, exponent)
  local last = exponent and exponent - 1 or #number
  local digits = sub(number, 1, fraction and fraction - 1 or last)
  local scale = exponent and tonumber(sub(number, exponent + 1)) or 0
  if fraction ~= nil then
    digits = digits .. sub(number, fraction + 1, last)
    scale = scale - (last - fraction)
  end
  local first = 1
  while byte(digits, first) == 48 do first = first + 1 end
  digits = sub(digits, first)
  if digits == "" then return "0" end
  while scale < 0 and byte(digits, #digits) == 48 do
    digits = sub(digits, 1, -2)
    scale = scale + 1
  end
  if scale < 0 then return nil end
  if scale > DIGITS_MAX then return TOO_LONG end
  return digits .. string.rep("0", scale)
end

-- The greatest and the least of each kind, without their signs.
local RANGES = {
  int32 = {"2147483647", "2147483648"},
  int64 = {"9223372036854775807", "9223372036854775808"},
  uint32 = {"4294967295", "0"},
  uint64 = {"18446744073709551615", "0"},
}

-- Digits of equal number compare as text; beyond 2^53 Lua's own numbers do not tell neighbours apart.
local function check_integer(kind, token, fraction, exponent)
  local negative = byte(token) == 45
  if negative then
    token = sub(token, 2)
    fraction, exponent = fraction and fraction - 1, exponent and exponent - 1
  end
  if fraction ~= nil or exponent ~= nil then
    token = whole(token, fraction, exponent)
    if token == nil then refuse("JSON_TYPE", "must be a whole number") end
  end
  local limit = RANGES[kind][negative and 2 or 1]
  if #token > #limit or (#token == #limit and token > limit) then refuse("JSON_NUMBER", "out of range of " .. kind) end
end

local function check_real(token, largest)
  local number = tonumber(token)
  if number == nil or number > largest or number < -largest then refuse("JSON_NUMBER", "out of range") end
end

local DOUBLE_MAX, FLOAT_MAX = 1.7976931348623157e308, 3.4028235677973362e38
local NOT_FINITE = {NaN = true, Infinity = true, ["-Infinity"] = true}

-- Values --------------------------------------------------------------------------------------------------------

local function pass_literal(word)
  if sub(text, at, at + #word - 1) ~= word then malformed("not JSON: expected a value") end
  at = at + #word
end

-- Passes the rest of a list or an object after one of its values; true where another value follows.
local function continues(closing)
  local found = skip()
  if found == closing then return false end
  if found ~= 44 then malformed("expected ',' or '" .. char(closing) .. "', not " .. shown(found)) end
  at = at + 1
  return true
end

-- Passes a key and its colon; returns the key and the first byte of its value.
local function read_key()
  local found = skip()
  if found ~= 34 then malformed("expected a key in double quotes, not " .. shown(found)) end
  at = at + 1
  local key = read_string()
  return key
end

local function pass_colon()
  local found = skip()
  if found ~= 58 then malformed("expected ':', not " .. shown(found)) end
  at = at + 1
  return skip()
end

-- A key that callers chose, where it can stand in a path.
local function sayable(key)
  if key == "" or #key > 64 then return false end
  for index = 1, #key do
    local found = byte(key, index)
    local letter = (found >= 97 and found <= 122) or (found >= 65 and found <= 90)
    if not (letter or is_digit(found) or found == 95) then return false end
  end
  return true
end

-- How many letters must be put in, left out or changed to make one word of another.
local function distance(one, other)
  local row = {}
  for column = 0, #other do row[column] = column end
  for line = 1, #one do
    local diagonal = row[0]
    row[0] = line
    for column = 1, #other do
      local changed = diagonal + (byte(one, line) == byte(other, column) and 0 or 1)
      diagonal = row[column]
      row[column] = math.min(changed, row[column] + 1, row[column - 1] + 1)
    end
  end
  return row[#other]
end

local function refuse_unknown(known, key)
  if not sayable(key) then refuse("JSON_FIELD_UNKNOWN", "no such field") end
  path[depth] = key
  local best, nearest = nil, math.min(3, #key)
  for name in pairs(known) do
    local far = distance(string.lower(key), string.lower(name))
    if far < nearest or (far == nearest and best ~= nil and name < best) then best, nearest = name, far end
  end
  refuse("JSON_FIELD_UNKNOWN", "no such field" .. (best and "; did you mean " .. best .. "?" or ""))
end

local pass_field, pass_value

local function pass_message(known)
  local given = {}
  enter()
  if skip() == 125 then return leave() end
  repeat
    path[depth] = ""
    local key = read_key()
    local field = known[key]
    if field == nil then refuse_unknown(known, key) end
    path[depth] = field.name
    if given[field] then refuse("JSON_FIELD_REPEATED", "the field is given twice") end
    given[field] = true
    local first = pass_colon()
    if first == 110 and field.kind ~= "value" and field.kind ~= "null" then
      pass_literal("null")
    else
      if field.oneof ~= nil then
        if given[field.oneof] then refuse("JSON_FIELD_REPEATED", "another field of the same choice is given") end
        given[field.oneof] = true
      end
      pass_field(field, first)
    end
  until not continues(125)
  leave()
end

local function pass_list(shape)
  enter()
  local index = 0
  if skip() == 93 then return leave() end
  repeat
    path[depth] = index
    pass_value(shape, skip())
    index = index + 1
  until not continues(93)
  leave()
end

-- A map's key of a number or a truth, in the one spelling that it has.
local function check_map_key(kind, key)
  if kind == "string" then return end
  if kind == "bool" then
    if key ~= "true" and key ~= "false" then refuse("JSON_TYPE", "a key must be true or false") end
    return
  end
  local stop, fraction, exponent = number_at(key, 1)
  if stop ~= #key + 1 or fraction ~= nil or exponent ~= nil or key == "-0" then
    refuse("JSON_TYPE", "a key must be a whole number")
  end
  bounded(key)
  check_integer(kind, key, nil, nil)
end

-- An object whose keys the contract does not name: a map, or where `shape` is nil any object.
local function pass_entries(shape)
  local given = {}
  enter()
  if skip() == 125 then return leave() end
  repeat
    path[depth] = ""
    local key = read_key()
    path[depth] = sayable(key) and "[" .. key .. "]" or ""
    if given[key] then refuse("JSON_FIELD_REPEATED", "the key is given twice") end
    given[key] = true
    if shape ~= nil then check_map_key(shape.key, key) end
    pass_value(shape, pass_colon())
  until not continues(125)
  leave()
end

local function pass_integer(shape, first)
  local token, fraction, exponent
  if first == 34 then
    token, fraction, exponent = read_quoted_number()
    if token == nil then refuse("JSON_TYPE", "must be a whole number") end
  elseif FOUND[first] == "a number" then
    token, fraction, exponent = read_number()
  else
    mistaken("a whole number", first)
  end
  check_integer(shape.kind, token, fraction, exponent)
end

local function pass_real(largest, first)
  if FOUND[first] == "a number" then
    check_real(read_number(), largest)
  elseif first == 34 then
    local token, said = read_quoted_number()
    if token ~= nil then
      check_real(token, largest)
    elseif not NOT_FINITE[said] then
      refuse("JSON_TYPE", "must be a number")
    end
  else
    mistaken("a number", first)
  end
end

local function pass_enum(shape, first)
  if first == 34 then
    at = at + 1
    if not ENUMS[shape.of][read_string()] then refuse("JSON_TYPE", "no such value of the enumeration") end
  elseif FOUND[first] == "a number" then
    local token, fraction, exponent = read_number()
    check_integer("int32", token, fraction, exponent)
  else
    mistaken("a name of the enumeration", first)
  end
end

local ANY = {kind = "value"}

-- Any value at all, as long as it is JSON.
local function pass_any(first)
  if first == 34 then
    at = at + 1
    pass_string()
  elseif first == 123 then
    pass_entries(nil)
  elseif first == 91 then
    pass_list(ANY)
  elseif FOUND[first] == "a number" then
    check_real(read_number(), DOUBLE_MAX)
  elseif FOUND[first] ~= nil then
    pass_literal(FOUND[first])
  else
    malformed("not JSON: expected a value, not " .. shown(first))
  end
end

-- A single value of a field: of a list one element, of a map one entry's. Without a shape, any.
function pass_value(shape, first)
  local kind = shape and shape.kind or "value"
  if kind == "message" then
    if first ~= 123 then mistaken("an object", first) end
    pass_message(MESSAGES[shape.of])
  elseif kind == "string" then
    if first ~= 34 then mistaken("a string", first) end
    at = at + 1
    pass_string()
  elseif RANGES[kind] ~= nil then
    pass_integer(shape, first)
  elseif kind == "bool" then
    if first ~= 116 and first ~= 102 then mistaken("true or false", first) end
    pass_literal(FOUND[first])
  elseif kind == "enum" then
    pass_enum(shape, first)
  elseif kind == "double" then
    pass_real(DOUBLE_MAX, first)
  elseif kind == "float" then
    pass_real(FLOAT_MAX, first)
  elseif kind == "value" then
    pass_any(first)
  elseif kind == "object" then
    if first ~= 123 then mistaken("an object", first) end
    pass_entries(nil)
  elseif kind == "values" then
    if first ~= 91 then mistaken("a list", first) end
    pass_list(ANY)
  elseif kind == "null" then
    if first == 110 then pass_literal("null") else pass_enum(shape, first) end
  else
    error("no such kind: " .. tostring(kind))
  end
end

function pass_field(field, first)
  if field.form == "list" then
    if first ~= 91 then mistaken("a list", first) end
    pass_list(field)
  elseif field.form == "map" then
    if first ~= 123 then mistaken("an object", first) end
    pass_entries(field)
  else
    pass_value(field, first)
  end
end

local function check(shape, whole_body)
  text, at, depth = whole_body, 1, 0
  path[0] = shape.name or ""
  if byte(text, 1) == 0xef and byte(text, 2) == 0xbb and byte(text, 3) == 0xbf then
    malformed("a byte order mark before the JSON")
  end
  pass_field(shape, skip())
  local rest = skip()
  if rest ~= nil then malformed("expected the end, not " .. shown(rest)) end
end

-- Queries -------------------------------------------------------------------------------------------------------

-- Finds the field that a name says, and leaves in `path` how it is called. Marks its choices in `given`.
local function lead(given, known, name)
  local above, from = "", 1
  depth = 0
  while true do
    path[depth] = ""
    local dot = string.find(name, ".", from, true)
    local key = sub(name, from, dot and dot - 1)
    local field = known[key]
    if field == nil then refuse_unknown(known, key) end
    path[depth] = field.name
    if field.oneof ~= nil then
      local choice = above .. field.oneof
      if (given[choice] or field.name) ~= field.name then
        refuse("JSON_FIELD_REPEATED", "another field of the same choice is given")
      end
      given[choice] = field.name
    end
    if dot == nil then return field end
    if field.kind ~= "message" or field.form ~= nil then
      refuse("JSON_FIELD_UNKNOWN", "fields of it do not stand in a query")
    end
    if depth == DEPTH_MAX then refuse("JSON_TOO_DEEP", "more than " .. DEPTH_MAX .. " objects in each other") end
    above, from, depth = above .. field.name .. ".", dot + 1, depth + 1
    known = MESSAGES[field.of]
  end
end

-- What a query cannot say in one value.
local COMPOSED = {message = true, object = true, values = true}

local function unescaped(digits)
  return char(tonumber(digits, 16))
end

-- One `name=value`. The transcoder reads escapes in names, too.
local function examine_part(given, known, part)
  local equals = string.find(part, "=", 1, true)
  if equals == 1 then stop("400", "JSON_QUERY_UNEXPECTED", "The query has a value without a field's name") end
  local name = string.gsub(sub(part, 1, equals and equals - 1), "%%(%x%x)", unescaped)
  local field = lead(given, known, name)
  local full = place()
  if equals == nil then refuse("JSON_QUERY_UNEXPECTED", "a query says fields as name=value") end
  if given[path[0]] == "body" then refuse("JSON_QUERY_UNEXPECTED", "the field goes in the body") end
  if given[full] == "path" then refuse("JSON_QUERY_UNEXPECTED", "the field stands in the path") end
  if COMPOSED[field.kind] or field.form == "map" then
    refuse("JSON_QUERY_UNEXPECTED", "a query gives single values, and lists of these")
  end
  if given[full] and field.form == nil then refuse("JSON_FIELD_REPEATED", "the field is given twice") end
  given[full] = "query"
end

-- Of a field that is given twice the transcoder takes the last: the one in the query, where path or body give it as well.
local function examine_query(target, taken)
  local mark = string.find(target, "?", 1, true)
  if mark == nil or mark == #target then return end
  if taken.query == nil then
    local sentence = "the method takes no query: its fields go in the body"
    local name = string.match(target, "^[%w_%.]+", mark + 1)
    if name ~= nil then sentence = name .. ": " .. sentence end
    stop("400", "JSON_QUERY_UNEXPECTED", sentence)
  end
  local known, given = MESSAGES[taken.query], {}
  for _, name in ipairs(taken.path) do
    lead(given, known, name)
    given[place()] = "path"
  end
  if taken.field ~= nil then
    lead(given, known, taken.field)
    given[place()] = "body"
  end
  while mark ~= nil do
    local from = mark + 1
    mark = string.find(target, "&", from, true)
    local part = sub(target, from, mark and mark - 1)
    if part ~= "" then examine_part(given, known, part) end
  end
end

-- The call ------------------------------------------------------------------------------------------------------

-- What `curl -d` says unless it is told otherwise counts as JSON where a call needs a bearer token: the body is held to
-- the contract all the same. Where it needs none, any page could have it sent without a preflight (CORS).
local function is_json(media, open)
  local parameters = string.find(media, ";", 1, true)
  local plain = string.lower(parameters and sub(media, 1, parameters - 1) or media)
  plain = string.gsub(plain, " +$", "")
  return plain == "application/json" or (not open and plain == "application/x-www-form-urlencoded")
end

local LARGE = "The request is too large"
local MEDIA = "The body must be sent as application/json: curl takes -H 'content-type: application/json'"

local function examine(handle)
  local name = handle:metadata():get(BODY)
  if name == nil then return end
  local media = handle:headers():get("content-type") or ""
  if is_grpc(media) then return end
  local taken, most = BODIES[name], handle:metadata():get(MOST)
  -- The route is newer than this script; the next moment brings the script too.
  if taken == nil then stop("503", "CONTRACT_PENDING", "The gateway is about to learn this method") end
  local shape = taken.shape
  local target = handle:headers():get(":path") or ""
  if most ~= nil and #target > most then stop("413", "REQUEST_TOO_LARGE", LARGE) end
  examine_query(target, taken)
  -- Headers cannot be read any more after this. Path and query count: fields of the request travel in them too.
  local buffered = handle:body()
  local length = buffered ~= nil and buffered:length() or 0
  if most ~= nil and #target + length > most then
    stop("413", "REQUEST_TOO_LARGE", LARGE)
  end
  if shape == NONE then
    if length > 0 then stop("400", "JSON_BODY_UNEXPECTED", "The method takes no body: its fields go in path and query") end
    return
  end
  if length == 0 then stop("400", "JSON_BODY_MISSING", "The method takes a JSON body, and the request has none") end
  if not is_json(media, taken.open) then stop("415", "JSON_MEDIA_TYPE", MEDIA) end
  check(shape, buffered:getBytes(0, length))
end

function envoy_on_request(handle)
  local ran, raised = pcall(examine, handle)
  text = ""
  if not ran then checks.refuse(handle, "strict_json", raised, "The body could not be checked") end
end

-- What the contracts hold ---------------------------------------------------------------------------------------

