// SPDX-License-Identifier: Apache-2.0
//
// api PATH [JSON]    GET /v1/PATH of vusbd, or POST where there is JSON; the answer's body goes to standard output
//
// For what a case asks again and again: starting vusbctl takes a second under software emulation, this a hundredth. Where
// there is no answer it prints null: of nothing at all jq says that all is well.
#define _GNU_SOURCE
#include "api.h"

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fputs("usage: api PATH [JSON]\n", stderr);
        return 2;
    }
    char *body = api_ask(argv[1], argc > 2 ? argv[2] : NULL);

    fputs(body ? body : "null\n", stdout);
    return body == NULL;
}
