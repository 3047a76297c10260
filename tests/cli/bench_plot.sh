# bench plot draws what bench e2e --csv wrote.
. "$SOURCE_DIR/tests/cli/lib.bash"

# Under sanitizers: the cache of fonts, which is never freed, is no leak of ours.
echo leak:libfontconfig >leaks
export LSAN_OPTIONS=suppressions=$PWD/leaks:print_suppressions=0

# A name with a comma and quotes, lines not in order, Windows line ends.
head='model,cpu_level,threads,policy,depth,synthetic,prompt_per_second,predicted_per_second'
printf '%s\r\n' "$head" '"a ""fine"", model.gguf",avx2,2,native,8192,0,80,16' \
    '"a ""fine"", model.gguf",avx2,2,native,0,0,280,110' '"a ""fine"", model.gguf",avx2,2,reattention,0,0,270,105' \
    '"a ""fine"", model.gguf",avx2,2,reattention,8192,1,130,48.5' >speed.csv
run 0 bench plot speed.csv -o speed.svg
[ ! -s out ] && [ ! -s err ] || complain "$what: nothing should be said:" "$(cat out err)"
# Each line has a stroke of its colour from point to point in both panels, and a mark at each point and in the legend.
cat >count.py <<'PYTHON'
import re, sys
text = open("speed.svg").read()
import xml.dom.minidom
xml.dom.minidom.parseString(text)
for red in (84, 0):
    strokes = re.findall(r"stroke:rgb\(%s(?:\.\d+)?%%" % red, text)
    assert len(strokes) == 2 * 1 + 2 * 2 + 1, (red, len(strokes))
PYTHON
"${REATTN_PYTHON:-python3}" count.py >count 2>&1 || complain "$what: speed.svg:" "$(cat count)"
run 0 bench plot -o speed.png speed.csv
[ "$(head -c 4 speed.png | tail -c 3)" = PNG ] || complain "$what: speed.png is no PNG"

fails 2 'needs one file' bench plot speed.csv
fails 2 'needs one file' bench plot -o speed.svg
fails 2 'ends with .svg or .png' bench plot speed.csv -o speed.gif
fails 1 'none/speed.svg' bench plot speed.csv -o none/speed.svg
fails 1 'none.csv' bench plot none.csv -o speed.svg
sed 's/predicted_per_second/words/' speed.csv >bad.csv
fails 1 'no column predicted_per_second' bench plot bad.csv -o bad.svg
sed '3s/110/many/' speed.csv >bad.csv
fails 1 "bad.csv:3: predicted_per_second is 'many'" bench plot bad.csv -o bad.svg
sed '4s/,105/,0/' speed.csv >bad.csv
fails 1 'bad.csv:4: depths are not negative and speeds are positive' bench plot bad.csv -o bad.svg
sed '5s/,48.5//' speed.csv >bad.csv
fails 1 'bad.csv:5: 7 values' bench plot bad.csv -o bad.svg
head -n 1 speed.csv >bad.csv
fails 1 'no lines' bench plot bad.csv -o bad.svg
: >bad.csv
fails 1 'nothing in it' bench plot bad.csv -o bad.svg
finish
