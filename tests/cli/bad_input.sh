# Texts and models that cannot be used: exit code 1 and one line that says why.
. "$SOURCE_DIR/tests/cli/lib.bash"

printf 'good\nbad \xc3(\n' >latin.txt
printf 'a\0b' >binary.txt
printf 'cut \xe2\x82' >cut.txt
fails 1 'latin.txt is not valid UTF-8 at byte 9' run -m none.gguf -f latin.txt
fails 1 'cut.txt is not valid UTF-8 at byte 4' run -m none.gguf -f cut.txt
fails 1 'binary.txt is no text: byte 1 is NUL' run -m none.gguf -f binary.txt
fails 1 'the text of -p is not valid UTF-8 at byte 1' run -m none.gguf -p $'a\xff'
fails 1 'missing.txt: No such file' run -m none.gguf -f missing.txt -p x
fails 1 'Is a directory' run -m none.gguf -f .
fails 1 'none.gguf' run -m none.gguf -p x
fails 1 'none.gguf' info -m none.gguf

echo 'this is no model' >text.gguf
fails 1 'text.gguf' run -m text.gguf -p x
need_model
head -c 3000000 "$model" >short.gguf
fails 1 'short.gguf' run -m short.gguf -p x
fails 1 'short.gguf' info -m short.gguf
finish
