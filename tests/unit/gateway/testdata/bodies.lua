body("weft.shop.v1.ShopService/Whole POST /v1/{text=shops/*}:whole", {}, {kind = "message", of = "weft.shop.v1.Everything"})
body("weft.shop.v1.ShopService/Whole PUT /v1/shops", {query = "weft.shop.v1.Everything", path = {}, field = "inner"}, {name = "inner", json = "inner", kind = "message", of = "weft.shop.v1.Inner"})
body("weft.shop.v1.ShopService/Listed POST /v1/listed", {query = "weft.shop.v1.Everything", path = {}, field = "inners"}, {name = "inners", json = "inners", form = "list", kind = "message", of = "weft.shop.v1.Inner"})
body("weft.shop.v1.ShopService/Mapped POST /v1/mapped", {query = "weft.shop.v1.Everything", path = {}, field = "by_name"}, {name = "by_name", json = "byName", form = "map", key = "string", kind = "message", of = "weft.shop.v1.Inner"})
body("weft.shop.v1.ShopService/Masked POST /v1/masked", {query = "weft.shop.v1.Everything", path = {}, field = "mask"}, {name = "mask", json = "mask", kind = "string"})
body("weft.shop.v1.ShopService/Nothing POST /v1/nothing", {}, {kind = "message", of = "google.protobuf.Empty"})
body("weft.shop.v1.ShopService/Read GET /v1/{again.text=shops/*}", {query = "weft.shop.v1.Inner", path = {"again.text"}}, nil)
message("weft.shop.v1.Everything", {
  {name = "text", json = "text", kind = "string"},
  {name = "raw", json = "raw", kind = "string"},
  {name = "flag", json = "flag", kind = "bool"},
  {name = "small", json = "small", kind = "int32"},
  {name = "large", json = "large", kind = "int64"},
  {name = "tiny", json = "tiny", kind = "uint32"},
  {name = "huge", json = "huge", kind = "uint64"},
  {name = "real", json = "real", kind = "float"},
  {name = "precise", json = "precise", kind = "double"},
  {name = "colour", json = "colour", kind = "enum", of = "weft.shop.v1.Colour"},
  {name = "inner", json = "inner", kind = "message", of = "weft.shop.v1.Inner"},
  {name = "inners", json = "inners", form = "list", kind = "message", of = "weft.shop.v1.Inner"},
  {name = "numbers", json = "numbers", form = "list", kind = "int32"},
  {name = "by_name", json = "byName", form = "map", key = "string", kind = "message", of = "weft.shop.v1.Inner"},
  {name = "by_number", json = "byNumber", form = "map", key = "int32", kind = "string"},
  {name = "by_flag", json = "byFlag", form = "map", key = "bool", kind = "double"},
  {name = "left", json = "left", kind = "string", oneof = "choice"},
  {name = "right_side", json = "rightSide", kind = "message", of = "weft.shop.v1.Inner", oneof = "choice"},
  {name = "maybe", json = "maybe", kind = "int32"},
  {name = "at_time", json = "atTime", kind = "string"},
  {name = "lasting", json = "lasting", kind = "string"},
  {name = "mask", json = "mask", kind = "string"},
  {name = "price", json = "price", kind = "message", of = "google.type.Money"},
  {name = "boxed_large", json = "boxedLarge", kind = "int64"},
  {name = "boxed_text", json = "boxedText", kind = "string"},
  {name = "boxed_flag", json = "boxedFlag", kind = "bool"},
  {name = "boxed_real", json = "boxedReal", kind = "double"},
  {name = "loose", json = "loose", kind = "object"},
  {name = "any_value", json = "anyValue", kind = "value"},
  {name = "any_list", json = "anyList", kind = "values"},
  {name = "nothing", json = "nothing", kind = "null", of = "google.protobuf.NullValue"},
  {name = "packed", json = "packed", kind = "object"},
  {name = "void", json = "void", kind = "message", of = "google.protobuf.Empty"},
  {name = "odd_name", json = "@odd", kind = "string"},
  {name = "colours", json = "colours", form = "list", kind = "enum", of = "weft.shop.v1.Colour"},
  {name = "colour_by_name", json = "colourByName", form = "map", key = "string", kind = "enum", of = "weft.shop.v1.Colour"},
  {name = "boxed_raw", json = "boxedRaw", kind = "string"},
})
message("weft.shop.v1.Inner", {
  {name = "count", json = "count", kind = "int64"},
  {name = "again", json = "again", kind = "message", of = "weft.shop.v1.Everything"},
})
message("google.protobuf.Empty", {})
enum("weft.shop.v1.Colour", {"COLOUR_UNSPECIFIED", "COLOUR_GREY", "COLOUR_GRAY"})
message("google.type.Money", {
  {name = "currency_code", json = "currencyCode", kind = "string"},
  {name = "units", json = "units", kind = "int64"},
  {name = "nanos", json = "nanos", kind = "int32"},
})
enum("google.protobuf.NullValue", {"NULL_VALUE"})
