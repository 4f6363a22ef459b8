#!/usr/bin/env bash
# Prints the licences of all that is linked into the binary: each crate with its version and licence, then every text
# that its authors put into it, once, with the crates it is for.
#
#   packaging/third-party.sh > THIRD-PARTY.txt
#
# Reads the crates where cargo keeps them; fetches what is missing there.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

target=$(rustc -vV | sed -n 's/^host: //p')
cargo fetch --locked --quiet --target "$target"
home=${CARGO_HOME:-$HOME/.cargo}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Those of procedural macros write code into the binary, so they count.
cargo tree --locked --edges normal --target "$target" --prefix none --format '{p}|{l}|{r}' |
  sed -e 's/ (\*)//' -e 's/ (proc-macro)//' | grep -v '^turnpike ' | sort -u >"$scratch/crates"
(($(wc -l <"$scratch/crates") > 50)) || { echo "packaging/third-party.sh: the crates are not found" >&2; exit 1; }

while IFS='|' read -r crate licence _; do
  name=${crate% v*} version=${crate#* v}
  folder=$(echo "$home"/registry/src/*/"$name-$version")
  [[ -d $folder ]] || { echo "packaging/third-party.sh: $name $version is not in $home" >&2; exit 1; }
  found=no
  while IFS= read -r -d '' text; do
    sum=$(sha256sum <"$text" | cut -c1-64)
    [[ -e $scratch/$sum.text ]] || cp "$text" "$scratch/$sum.text"
    echo "$name $version" >>"$scratch/$sum.crates"
    found=yes
  done < <(find "$folder" -maxdepth 4 -type f -size -200k -regextype posix-extended \
    -iregex '.*/(licen[cs]e|copying|copyright|notice|unlicense)([._-][a-z0-9._-]*)?' ! -name '*.rs' -print0 | sort -z)
  [[ $found == yes ]] || echo "$name $version ($licence)" >>"$scratch/none"
done <"$scratch/crates"

printf 'turnpike is licensed under MIT or Apache 2.0. Linked into it are the Rust standard library (MIT or Apache 2.0,\n'
printf 'https://www.rust-lang.org), SQLite (public domain, inside libsqlite3-sys), and these crates:\n\n'
sed -E 's/^([^ ]+) v([^|]+)\|([^|]*)\|(.*)$/\1 \2: \3  \4/' "$scratch/crates"
if [[ -s $scratch/none ]]; then
  printf '\nThese name their licence and bring no text of it; the texts of MIT and Apache 2.0 are below:\n\n'
  cat "$scratch/none"
fi
# The same order for the same crates: by the first crate a text is for.
for text in "$scratch"/*.text; do
  crates=${text%.text}.crates
  sort -u -o "$crates" "$crates"
  printf '%s\t%s\n' "$(head -1 "$crates")" "$text"
done | sort | cut -f2 | while read -r text; do
  printf '\n%s\n' "--------------------------------------------------------------------------------"
  paste -sd, "${text%.text}.crates" | sed 's/,/, /g' | fold -s -w 110
  printf '\n'
  tr -d '\r' <"$text"
done
